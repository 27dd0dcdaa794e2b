/**
 * The engine's end of the protocol: one engine, calls in the order they came, cancellation in between.
 *
 * It runs in the worker, or in the page for `worker: false`; it knows neither.
 */

import { openEngine } from "./device.js";
import type { Engine, OnProgress, StartModule } from "./engine.js";
import type { AdapterInfo, BlipInfo } from "./info.js";
import { BlipError, type CaptionResult, type FromEngine, type ImagePayload, type ToEngine, toBlipError } from "./protocol.js";
import type { EngineOptions } from "./options.js";
import { fetchModel } from "./store.js";

type CreateRequest = Extract<ToEngine, { type: "create" }>;
type CaptionRequest = Extract<ToEngine, { type: "caption" }>;

/** Serves one engine. */
export class EngineHost {
  readonly #post: (message: FromEngine) => void;
  readonly #startModule: StartModule;
  /** Requests that are waiting or running; cancelling one marks its controller. */
  readonly #calls = new Map<number, AbortController>();
  #queue: Promise<void> = Promise.resolve();
  #engine: Engine | undefined;
  #crashed = false;

  constructor(post: (message: FromEngine) => void, startModule: StartModule) {
    this.#post = post;
    this.#startModule = startModule;
  }

  /** Whether a request is waiting or running. */
  get busy(): boolean {
    return this.#calls.size > 0;
  }

  /** Takes a message of the page. Cancelling acts at once; everything else waits its turn. */
  receive(message: ToEngine): void {
    if (message.type === "abort") {
      this.#calls.get(message.id)?.abort();
      return;
    }
    const controller = new AbortController();
    this.#calls.set(message.id, controller);
    this.#queue = this.#queue.then(() => this.#serve(message, controller.signal));
  }

  /** Tells the page that the engine cannot go on, once. */
  crash(thrown: unknown): void {
    if (this.#crashed) return;
    this.#crashed = true;
    const { message } = toBlipError(thrown);
    this.#post({ type: "crashed", code: "internal", message: `the engine stopped: ${message} (the console may say more)` });
  }

  /** Cancels everything and frees the engine; resolves when its memory can be reused. */
  async dispose(): Promise<void> {
    for (const controller of this.#calls.values()) controller.abort();
    // After a crash the running call never ends, and the module must not be entered again.
    if (this.#crashed) return;
    await this.#queue;
    this.#engine?.free();
    this.#engine = undefined;
  }

  async #serve(request: CreateRequest | CaptionRequest, signal: AbortSignal): Promise<void> {
    try {
      if (this.#crashed) return;
      signal.throwIfAborted();
      await (request.type === "create" ? this.#create(request, signal) : this.#caption(request, signal));
    } catch (thrown) {
      // A trap leaves the module's memory in an unknown state.
      if (thrown instanceof WebAssembly.RuntimeError) return this.crash(thrown);
      const { code, message } = toBlipError(thrown);
      this.#post({ type: "failed", id: request.id, code, message });
    } finally {
      this.#calls.delete(request.id);
    }
  }

  async #create({ id, create }: CreateRequest, signal: AbortSignal): Promise<void> {
    if (this.#engine !== undefined) throw new BlipError("internal", "the engine was already created");
    const begun = performance.now();
    const progress = (step: Extract<FromEngine, { type: "progress" }>["progress"]): void => {
      this.#post({ type: "progress", id, progress: step });
    };
    // The engine starts while the model downloads; the first of the two to fail stops the other.
    const both = new AbortController();
    signal.addEventListener("abort", () => both.abort(signal.reason), { once: true });
    const open = async () => {
      const module = await this.#startModule(create.wasmUrl, both.signal);
      const opened = await openEngine(module, create.device);
      this.#engine = opened.engine;
      const { device, fallbackReason } = opened;
      progress({ phase: "device", device, ...(fallbackReason === undefined ? {} : { fallbackReason }) });
      return { ...opened, version: module.version() };
    };
    const parts = [open(), fetchModel(create.manifestUrl, progress, both.signal)] as const;
    const [{ engine, device, fallbackReason, version }, { manifest, weights, vocab }] = await Promise.all(parts).catch(
      async (error: unknown) => {
        both.abort(error);
        // An engine that opens late must be known before anyone frees it.
        await Promise.allSettled(parts);
        throw error;
      },
    );
    signal.throwIfAborted();
    progress({ phase: "load" });
    await engine.load(manifest.json, weights, vocab);
    const load = performance.now() - begun;
    signal.throwIfAborted();
    progress({ phase: "compile" });
    const compile = await engine.warmUp();
    progress({ phase: "ready" });
    const info: BlipInfo = {
      device,
      adapter: JSON.parse(engine.adapter()) as AdapterInfo,
      model: {
        id: manifest.id,
        tasks: manifest.tasks,
        dtype: manifest.dtype,
        licence: manifest.licence,
        bytes: weights.length + vocab.length,
      },
      ...(manifest.knows === undefined ? {} : { knows: manifest.knows }),
      ...(fallbackReason === undefined ? {} : { fallbackReason }),
      version,
      ms: { load, compile },
    };
    this.#post({ type: "created", id, info });
  }

  async #caption({ id, image, options }: CaptionRequest, signal: AbortSignal): Promise<void> {
    if (this.#engine === undefined) throw new BlipError("internal", "a caption was asked for before the engine was created");
    const onProgress: OnProgress = (text, index) => {
      if (signal.aborted) return false;
      this.#post({ type: "token", id, text, index });
      return true;
    };
    const json = await run(this.#engine, image, options, onProgress);
    signal.throwIfAborted();
    this.#post({ type: "captioned", id, result: JSON.parse(json) as CaptionResult });
  }
}

function run(engine: Engine, image: ImagePayload, options: EngineOptions, onProgress: OnProgress): Promise<string> {
  const json = JSON.stringify(options);
  return image.kind === "encoded"
    ? engine.caption(image.bytes, json, onProgress)
    : engine.captionPixels(image.rgba, image.width, image.height, json, onProgress);
}
