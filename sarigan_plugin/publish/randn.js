// numpy.random.RandomState(seed).randn(length), number by number: a seed means the same image everywhere.

const WORDS = 624, MIDDLE = 397;

// MT19937 (Matsumoto and Nishimura), seeded as NumPy does. Returns a function that draws doubles in [0, 1).
function uniform(seed) {
    const state = new Uint32Array(WORDS);
    state[0] = seed;
    for (let i = 1; i < WORDS; i++)
        state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    let position = WORDS;

    function refill() {
        for (let i = 0; i < WORDS; i++) {
            const y = (state[i] & 0x80000000) | (state[(i + 1) % WORDS] & 0x7fffffff);
            state[i] = state[(i + MIDDLE) % WORDS] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
        }
        position = 0;
    }
    function word() {
        if (position === WORDS)
            refill();
        let y = state[position++];
        y ^= y >>> 11;
        y ^= (y << 7) & 0x9d2c5680;
        y ^= (y << 15) & 0xefc60000;
        return (y ^ (y >>> 18)) >>> 0;
    }
    return () => {
        const high = word() >>> 5, low = word() >>> 6;
        return (high * 67108864 + low) / 9007199254740992; // 2^26, 2^53
    };
}

// The latent of a seed, 0 to 2^32 - 1. Normal numbers come in pairs by Marsaglia's polar method, the second one first.
export function latent(seed, length) {
    const draw = uniform(seed), z = new Float32Array(length);
    for (let i = 0; i < length; i += 2) {
        let x, y, square;
        do {
            x = 2 * draw() - 1;
            y = 2 * draw() - 1;
            square = x * x + y * y;
        } while (square >= 1 || square === 0);
        const factor = Math.sqrt(-2 * Math.log(square) / square);
        z[i] = factor * y;
        if (i + 1 < length)
            z[i + 1] = factor * x;
    }
    return z;
}
