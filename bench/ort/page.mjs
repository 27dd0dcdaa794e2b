/**
 * BLIP captioning on onnxruntime-web: three graphs, the image's keys and values computed once, the
 * self-attention cache handed from step to step. `window.bench` is driven by bench/run.mjs.
 */

import { picture } from "../page/picture.mjs";

const LAYERS = 12;
const HEADS = 12;
const WIDTH = 64;
const BOS = 30522;
const names = (prefix) => Array.from({ length: LAYERS }, (_, i) => [`${prefix}_k${i}`, `${prefix}_v${i}`]).flat();
const [PAST, CROSS, PRESENT] = [names("past"), names("cross"), names("present")];

let ort;
let onGpu;
let imageSize;
const sessions = {};

/** Sets the runtime up and opens the graphs in `parts`; milliseconds and bytes of each. */
async function load({ provider, precision, size, parts }) {
  onGpu = provider === "webgpu";
  imageSize = size;
  ort = await import(`/onnxruntime/ort.${onGpu ? "webgpu" : "wasm"}.min.mjs`);
  ort.env.wasm.wasmPaths = "/onnxruntime/";
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const outputs = {
    vision: { image_embeds: place() },
    crosskv: Object.fromEntries(CROSS.map((name) => [name, place()])),
    step: { logits: "cpu", ...Object.fromEntries(PRESENT.map((name) => [name, place()])) },
  };
  const report = {};
  for (const part of parts) {
    const response = await fetch(`/models/onnx-${size}/${part}.${precision}.onnx`);
    if (!response.ok) throw new Error(`${response.url}: ${response.status}`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const begun = performance.now();
    sessions[part] = await ort.InferenceSession.create(bytes, {
      executionProviders: [provider],
      graphOptimizationLevel: "all",
      ...(onGpu ? { preferredOutputLocation: outputs[part] } : {}),
    });
    report[part] = { bytes: bytes.length, ms: performance.now() - begun };
  }
  return { parts: report, heap: heap(), version: ort.env.versions?.web ?? null };
}

const place = () => (onGpu ? "gpu-buffer" : "cpu");

/** Bytes of wasm memory. */
const heap = () => window.memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);

/** Waits for the GPU; on the CPU a run is over when it returns. */
async function settle() {
  if (onGpu) await (await ort.env.webgpu.device).queue.onSubmittedWorkDone();
}

async function encode() {
  const pixels = new ort.Tensor("float32", picture(imageSize), [1, 3, imageSize, imageSize]);
  const begun = performance.now();
  const { image_embeds: embeds } = await sessions.vision.run({ pixel_values: pixels });
  await settle();
  return { embeds, visionMs: performance.now() - begun };
}

/** Noise in place of image tokens, for a decoder whose vision is not loaded. */
function noise() {
  const tokens = (imageSize / 16) ** 2 + 1;
  const values = picture(Math.ceil(Math.sqrt((tokens * 768) / 3))).slice(0, tokens * 768);
  return { embeds: new ort.Tensor("float32", values, [1, tokens, 768]), visionMs: null };
}

/** Milliseconds of one encoding. */
async function vision() {
  const { embeds, visionMs } = await encode();
  embeds.dispose();
  return { visionMs };
}

/** A caption of exactly `tokens` tokens: the end token is not looked at. */
async function caption({ tokens }) {
  const begun = performance.now();
  const { embeds, visionMs } = sessions.vision ? await encode() : noise();
  const beforeCross = performance.now();
  const cross = await sessions.crosskv.run({ image_embeds: embeds });
  await settle();
  const beforeSteps = performance.now();
  let past = PAST.map(() => new ort.Tensor("float32", new Float32Array(0), [1, HEADS, 0, WIDTH]));
  let token = BOS;
  for (let position = 0; position < tokens; position++) {
    const inputs = { ...cross, input_ids: id(token), position_ids: id(position) };
    PAST.forEach((name, i) => (inputs[name] = past[i]));
    const outputs = await sessions.step.run(inputs);
    token = best(outputs.logits.data);
    past.forEach((tensor) => tensor.dispose());
    past = PRESENT.map((name) => outputs[name]);
  }
  const ended = performance.now();
  for (const tensor of [embeds, ...Object.values(cross), ...past]) tensor.dispose();
  return { visionMs, crossMs: beforeSteps - beforeCross, stepMs: (ended - beforeSteps) / tokens, totalMs: ended - begun };
}

const id = (value) => new ort.Tensor("int64", BigInt64Array.of(BigInt(value)), [1, 1]);

function best(logits) {
  let index = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[index]) index = i;
  return index;
}

window.bench = { load, vision, caption, heap };
