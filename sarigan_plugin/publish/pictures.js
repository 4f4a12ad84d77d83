// From what the model makes to pixels. Images are {size, data}, data being RGBA as canvases have it.

// Numbers [colours, H, W], about [-1, 1], as support/pictures.py makes bytes of them.
export function toPixels(numbers, size, colours) {
    const data = new Uint8ClampedArray(size * size * 4), plane = size * size;
    for (let i = 0; i < plane; i++) {
        for (let c = 0; c < 3; c++) {
            const value = numbers[(c % colours) * plane + i] * 127.5 + 128;
            data[4 * i + c] = Math.floor(Math.min(Math.max(value, 0), 255)); // The array itself would round.
        }
        data[4 * i + 3] = 255;
    }
    return {size, data};
}

// An image of at most so many pixels a side, by means of blocks; sides are powers of two.
export function shrink(image, side) {
    const factor = Math.max(Math.floor(image.size / side), 1);
    if (factor === 1)
        return image;
    const size = image.size / factor, data = new Uint8ClampedArray(size * size * 4);
    for (let y = 0; y < size; y++)
        for (let x = 0; x < size; x++)
            for (let c = 0; c < 4; c++) {
                let sum = 0;
                for (let row = y * factor; row < (y + 1) * factor; row++)
                    for (let column = x * factor; column < (x + 1) * factor; column++)
                        sum += image.data[4 * (row * image.size + column) + c];
                data[4 * (y * size + x) + c] = sum / (factor * factor);
            }
    return {size, data};
}

// Where two images differ, [H, W]: means over colours.
export function change(before, after) {
    return Float32Array.from({length: before.size ** 2}, (_, i) => (Math.abs(after.data[4 * i] - before.data[4 * i])
        + Math.abs(after.data[4 * i + 1] - before.data[4 * i + 1])
        + Math.abs(after.data[4 * i + 2] - before.data[4 * i + 2])) / 3);
}

// A map [side, side] laid over an image, as heat_overlay() in support/pictures.py: grey and dark where it is low, red
// where it is high. A map that is flat leaves all of it dark.
export function heatOverlay(image, map, side) {
    const {size} = image, levels = enlarged(map, side, size), data = new Uint8ClampedArray(size * size * 4);
    const sorted = Float32Array.from(levels).sort();
    const low = quantile(sorted, 0.02), range = Math.max(quantile(sorted, 0.98) - low, 1e-8);
    for (let i = 0; i < levels.length; i++) {
        const heat = Math.min(Math.max((levels[i] - low) / range, 0), 1), weight = 0.8 * heat ** 2;
        const grey = (image.data[4 * i] + image.data[4 * i + 1] + image.data[4 * i + 2]) / 3 * 0.55 * (1 - weight);
        data[4 * i] = grey + 255 * weight;
        data[4 * i + 1] = grey + 255 * 0.85 * (1 - heat) * weight;
        data[4 * i + 2] = grey;
        data[4 * i + 3] = 255;
    }
    return {size, data};
}

function quantile(sorted, q) {
    const place = q * (sorted.length - 1), below = Math.floor(place), above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

// Bilinear, pixels being squares: torch's interpolate(mode='bilinear').
function enlarged(map, side, size) {
    const places = Array.from({length: size}, (_, i) => {
        const at = Math.max((i + 0.5) * side / size - 0.5, 0), first = Math.min(Math.floor(at), side - 1);
        return [first, Math.min(first + 1, side - 1), at - first];
    });
    const levels = new Float32Array(size * size);
    places.forEach(([top, bottom, down], y) => places.forEach(([left, right, across], x) => {
        const above = map[top * side + left] * (1 - across) + map[top * side + right] * across;
        const below = map[bottom * side + left] * (1 - across) + map[bottom * side + right] * across;
        levels[y * size + x] = above * (1 - down) + below * down;
    }));
    return levels;
}
