/**
 * The engine as the benchmark uses it: the only file here that knows the bindings of the wasm module.
 */

import init, { Engine } from "/pkg/wasm/blip.js";
import { rgbaPicture } from "./picture.mjs";

/** Sequences count the token they begin with. */
const PROMPT_TOKENS = 1;

/** Starts the module and opens `device`, "cpu" or "webgpu"; resolves to an `OpenEngine`. */
export async function open(device) {
  const { memory } = await init({ module_or_path: "/pkg/wasm/blip_bg.wasm" });
  return new OpenEngine(await Engine.open(device), memory);
}

class OpenEngine {
  constructor(engine, memory) {
    this.engine = engine;
    this.memory = memory;
  }

  /** What the device says about itself. */
  adapter() {
    return JSON.parse(this.engine.adapter());
  }

  /** Bytes of wasm memory; it never shrinks, so this is also its peak so far. */
  heap() {
    return this.memory.buffer.byteLength;
  }

  /** Streams the model whose blip.json is at `url` to the device. */
  async load(url) {
    const text = await (await fetch(url)).text();
    const manifest = JSON.parse(text);
    this.imageSize = manifest.config.vision_config.image_size;
    this.engine.beginLoad(text);
    const weights = await fetch(new URL(manifest.files.weights.path, url));
    const reader = weights.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) this.engine.push(part.value);
    const vocab = await fetch(new URL(manifest.files.vocab.path, url));
    await this.engine.finishLoad(new Uint8Array(await vocab.arrayBuffer()));
  }

  /** Compiles pipelines. */
  async warmUp() {
    await this.engine.warmUp(() => true);
  }

  /** One encoding of the picture, waited for: milliseconds. */
  async vision() {
    const begun = performance.now();
    await this.engine.encodePixels(rgbaPicture(this.imageSize), this.imageSize, this.imageSize);
    return { visionMs: performance.now() - begun };
  }

  /** A caption of exactly `tokens` tokens: where its time went. */
  async caption({ tokens, beams = 1 }) {
    const length = tokens + PROMPT_TOKENS;
    const options = JSON.stringify({ numBeams: beams, minLength: length, maxLength: length });
    const rgba = rgbaPicture(this.imageSize);
    const begun = performance.now();
    const answer = await this.engine.captionPixels(rgba, this.imageSize, this.imageSize, options, () => true);
    const totalMs = performance.now() - begun;
    const { captions, ms } = JSON.parse(answer);
    if (captions[0].tokens.length !== tokens) throw new Error(`${captions[0].tokens.length} tokens instead of ${tokens}`);
    const steps = ms.steps.reduce((sum, step) => sum + step, 0);
    return { visionMs: ms.encode, crossMs: ms.crossKv, stepMs: steps / tokens, totalMs };
  }
}
