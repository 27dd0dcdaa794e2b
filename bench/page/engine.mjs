/**
 * The engine as the benchmark uses it, through the SDK's own modules but without its worker: the only
 * file here that knows them.
 */

import { startModule } from "/pkg/engine.js";
import { openModel } from "/pkg/store.js";
import { rgbaPicture } from "./picture.mjs";

/** Sequences count the token they begin with. */
const PROMPT_TOKENS = 1;
/** Tokens that a GPU decides on between two readings; `tasks::decoder` in the crate. */
const WINDOW = 4;
/** Nothing here is aborted. */
const { signal } = new AbortController();

/** Starts the module and opens `device`, "cpu" or "webgpu"; resolves to an `OpenEngine`. */
export async function open(device) {
  const { Engine } = await startModule({}, signal);
  return new OpenEngine(await Engine.open(device), device === "webgpu");
}

class OpenEngine {
  constructor(engine, onGpu) {
    this.engine = engine;
    this.onGpu = onGpu;
  }

  /** What the device says about itself. */
  adapter() {
    return JSON.parse(this.engine.adapter());
  }

  /** Bytes of wasm memory; it never shrinks, so this is also its peak so far. */
  heap() {
    return JSON.parse(this.engine.memory()).wasmBytes;
  }

  /** Streams the model whose blip.json is at `url` to the device. */
  async load(url) {
    const text = await (await fetch(url)).text();
    this.imageSize = JSON.parse(text).config.vision_config.image_size;
    const source = { kind: "manifest", url: new URL(url, location.href).href };
    const ignore = () => {};
    const options = { cache: "none", dtype: { vision: "q8", text: "q8" }, signal, onProgress: ignore, onEvent: ignore };
    const model = await openModel(source, options);
    this.engine.beginLoad(text);
    await model.pourWeights((piece) => this.engine.push(piece));
    await this.engine.finishLoad(model.vocab);
  }

  /** Compiles pipelines. */
  async warmUp() {
    await this.engine.warmUp(() => {});
  }

  /** One encoding of the picture, waited for: milliseconds. */
  async vision() {
    const { visionMs } = await this.caption({ tokens: 1 });
    return { visionMs };
  }

  /** A caption of exactly `tokens` tokens: where its time went. */
  async caption({ tokens, beams = 1 }) {
    const length = tokens + PROMPT_TOKENS;
    const request = JSON.stringify({ task: "caption", numBeams: beams, minLength: length, maxLength: length });
    const [width, height] = [this.imageSize, this.imageSize];
    const rgba = rgbaPicture(this.imageSize);
    const told = [];
    const begun = performance.now();
    const [picture] = await this.engine.encode([{ rgba, width, height }], "{}");
    const visionMs = performance.now() - begun;
    const onToken = () => told.push(performance.now()) > 0;
    const [answer] = await this.engine.run(request, Uint32Array.of(picture), onToken);
    const totalMs = performance.now() - begun;
    this.engine.release(picture);
    const [{ captions, ms }] = JSON.parse(answer).results;
    if (captions[0].tokens.length !== tokens) throw new Error(`${captions[0].tokens.length} tokens instead of ${tokens}`);
    if (!this.onGpu) return { visionMs, crossMs: ms.ground, stepMs: (ms.caption - ms.ground) / ms.tokens, totalMs };
    return { visionMs, crossMs: null, stepMs: steadyStep(told), totalMs };
  }
}

/**
 * Milliseconds of a token once the first window of them is there. A GPU computes the image's keys and
 * values while the first tokens wait for it, and tells of tokens a window at a time; null before the second.
 */
function steadyStep(told) {
  const steps = told.length - WINDOW;
  return steps > 0 ? (told.at(-1) - told[WINDOW - 1]) / steps : null;
}
