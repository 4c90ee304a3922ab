// The worker: keeps one exported head ready, in onnxruntime's WebAssembly.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.logLevel = "error"; // its notes about the graph are of no use here
ort.env.wasm.numThreads = 1; // more need a server that isolates the page (COOP and COEP headers)
let ready = { name: undefined, session: undefined };

async function open(file) {
  const name = file ? `${file.name} ${file.size} ${file.lastModified}` : "";
  if (ready.name !== name) {
    const response = file ? null : await fetch("model.onnx");
    if (response && !response.ok) throw new Error("Choose a head: there is no model.onnx beside this page.");
    const bytes = await (file ?? response).arrayBuffer();
    ready = { name, session: await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 }) };
  }
  return ready.session;
}

function toPlanes(rgba, count) {
  const planes = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) planes[c * count + i] = rgba[4 * i + c] / 255;
  }
  return planes;
}

function toPixels(planes, count) {
  const rgba = new Uint8ClampedArray(4 * count);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = Math.round(255 * planes[c * count + i]);
    rgba[4 * i + 3] = 255;
  }
  return rgba;
}

self.onmessage = async ({ data: { model, data, width, height, strength, seed } }) => {
  try {
    const session = await open(model);
    const count = width * height;
    const { painting } = await session.run({
      photo: new ort.Tensor("float32", toPlanes(data, count), [1, 3, height, width]),
      seed: new ort.Tensor("int64", BigInt64Array.of(BigInt(seed)), []),
      strength: new ort.Tensor("float32", Float32Array.of(strength), []),
    });
    self.postMessage({ data: toPixels(painting.data, count), width, height });
  } catch (error) {
    self.postMessage({ error: `This did not work: ${error.message}` });
  }
};
