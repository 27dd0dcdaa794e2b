/** What a browser downloads before any model, as a server sends it. */

import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";

/** The files that onnxruntime-web loads for each kind of device. */
const THEIRS = {
  wasm: ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"],
  webgpu: ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"],
};

/** Bytes with gzip: all JavaScript of the SDK with its largest module, and onnxruntime-web's two builds. */
export function runtimeSizes(sdk, onnxruntime) {
  const files = readdirSync(sdk, { recursive: true }).map((name) => path.join(sdk, name));
  const packed = (suffix) => files.filter((file) => file.endsWith(suffix)).map(gzipped);
  const theirs = (kind) => sum(THEIRS[kind].map((name) => gzipped(path.join(onnxruntime, name))));
  return {
    // Where there are modules for several kinds of browser, each loads one of them.
    "runtime.ours": sum(packed(".js")) + Math.max(...packed(".wasm")),
    "runtime.theirs.wasm": theirs("wasm"),
    "runtime.theirs.webgpu": theirs("webgpu"),
  };
}

const gzipped = (file) => gzipSync(readFileSync(file), { level: 9 }).length;
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
