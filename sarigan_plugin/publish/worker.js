// Runs the model beside the page, which stays quick meanwhile.
//
// First message: {base, runtime, model}; answered by {ready: true}, or {failed: sentence}.
// Others: {id, feeds, outputs}, see feeds.js; answered by {id, results: {name: [Float32Array, shape]}} or {id, failed}.

// On a CPU, what goes beyond basic optimizations delays the first picture more than it speeds up the others.
const RUNTIMES = {
    wasm: {library: 'ort.wasm.min.mjs', binary: 'ort-wasm-simd-threaded', optimize: 'basic'},
    webgpu: {library: 'ort.webgpu.min.mjs', binary: 'ort-wasm-simd-threaded.asyncify', optimize: 'all'},
};
let ort, session;

self.onmessage = async ({data}) => {
    try {
        if (data.base) {
            await open(data);
            self.postMessage({ready: true});
        } else {
            self.postMessage({id: data.id, results: await run(data)});
        }
    } catch (error) {
        self.postMessage({id: data.id, failed: String(error?.message ?? error)});
    }
};

async function open({base, runtime, model}) {
    const {library, binary, optimize} = RUNTIMES[runtime], folder = new URL('runtime/', base);
    const [imported, wasm, network] = await Promise.all([
        import(new URL(library, folder)), bytes(new URL(`${binary}.wasm.gz`, folder)), bytes(new URL(model, base))]);
    ort = imported;
    ort.env.wasm.wasmBinary = await unpacked(wasm);
    ort.env.wasm.wasmPaths = {mjs: new URL(`${binary}.mjs`, folder).href};
    ort.env.wasm.numThreads = 1; // More need headers that static hosts do not send.
    ort.env.logLevel = 'error';
    session = await ort.InferenceSession.create(network,
        {executionProviders: [runtime], graphOptimizationLevel: optimize});
}

async function run({feeds, outputs}) {
    const tensors = Object.fromEntries(Object.entries(feeds).map(
        ([name, [array, shape]]) => [name, new ort.Tensor('float32', array, shape)]));
    const made = await session.run(tensors, outputs);
    return Object.fromEntries(Object.entries(made).map(([name, tensor]) => [name, [tensor.data, tensor.dims]]));
}

async function bytes(address) {
    const response = await fetch(address);
    if (!response.ok)
        throw new Error(`${address} cannot be had: the server answers ${response.status}`);
    return response.arrayBuffer();
}

// Some servers unpack such files themselves.
async function unpacked(content) {
    const [first, second] = new Uint8Array(content, 0, 2);
    if (first !== 0x1f || second !== 0x8b)
        return content;
    return new Response(new Blob([content]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}
