/**
 * The engine's end of the protocol: one engine, calls in the order they came, cancellation in between.
 *
 * It runs in the worker, or in the page for `worker: false`; it knows neither.
 */

import { gpuFault, type OpenedEngine, openEngine } from "./device.js";
import type { Engine, EngineModule, OnProgress, StartModule } from "./engine.js";
import type { AdapterInfo, BlipInfo, SelfTest } from "./info.js";
import {
  BlipError,
  type CaptionResult,
  type FromEngine,
  type ImagePayload,
  type Progress,
  type ToEngine,
  toBlipError,
} from "./protocol.js";
import type { EngineOptions } from "./options.js";
import { openModel, type RemoteModel } from "./store.js";

type CreateRequest = Extract<ToEngine, { type: "create" }>;
type CaptionRequest = Extract<ToEngine, { type: "caption" }>;
type SelfTestRequest = Extract<ToEngine, { type: "selfTest" }>;
type Report = (progress: Progress) => void;

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

  async #serve(request: CreateRequest | CaptionRequest | SelfTestRequest, signal: AbortSignal): Promise<void> {
    try {
      if (this.#crashed) return;
      signal.throwIfAborted();
      if (request.type === "create") await this.#create(request, signal);
      else if (request.type === "caption") await this.#caption(request, signal);
      else await this.#selfTest(request, signal);
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
    const progress: Report = (step) => this.#post({ type: "progress", id, progress: step });
    // The engine starts while the model downloads; the first of the two to fail stops the other.
    const both = new AbortController();
    signal.addEventListener("abort", () => both.abort(signal.reason), { once: true });
    const open = async (): Promise<{ module: EngineModule; opened: OpenedEngine }> => {
      const module = await this.#startModule(create, both.signal);
      return { module, opened: this.#adopt(await openEngine(module, create.device), progress) };
    };
    const parts = [open(), openModel(create.manifestUrl, progress, both.signal)] as const;
    const fail = async (error: unknown): Promise<never> => {
      both.abort(error);
      // An engine that opens late must be known before anyone frees it.
      await Promise.allSettled(parts);
      throw error;
    };
    const [{ module, opened: first }, model] = await Promise.all(parts).catch(fail);
    const tested = async (): Promise<OpenedEngine> => {
      await load(first.engine, model, progress, signal);
      return this.#tested(first, create.device, module, model, progress, signal);
    };
    const { engine, device, fallbackReason } = await tested().catch(fail);
    const loaded = performance.now() - begun;
    signal.throwIfAborted();
    progress({ phase: "compile", done: 0, total: 1 });
    const compile = await engine.warmUp((done, total) => progress({ phase: "compile", done, total }));
    progress({ phase: "ready" });
    const { manifest } = model;
    const info: BlipInfo = {
      device,
      adapter: JSON.parse(engine.adapter()) as AdapterInfo,
      model: {
        id: manifest.id,
        tasks: manifest.tasks,
        quantisation: manifest.quantisation,
        licence: manifest.licence,
        bytes: manifest.files.weights.bytes + manifest.files.vocab.bytes,
      },
      ...(manifest.knows === undefined ? {} : { knows: manifest.knows }),
      ...(fallbackReason === undefined ? {} : { fallbackReason }),
      version: module.version(),
      ms: { load: loaded, compile },
    };
    this.#post({ type: "created", id, info });
  }

  /** Makes an opened engine this host's, so that it is freed with it. */
  #adopt(opened: OpenedEngine, progress: Report): OpenedEngine {
    this.#engine = opened.engine;
    const { device, fallbackReason } = opened;
    progress({ phase: "device", device, ...(fallbackReason === undefined ? {} : { fallbackReason }) });
    return opened;
  }

  /** The engine if its kernels compute what they should; under `auto` another one on the CPU otherwise. */
  async #tested(
    opened: OpenedEngine,
    choice: "auto" | "webgpu" | "cpu",
    module: EngineModule,
    model: RemoteModel,
    progress: Report,
    signal: AbortSignal,
  ): Promise<OpenedEngine> {
    if (opened.device === "cpu") return opened;
    progress({ phase: "selfTest" });
    const fault = await gpuFault(opened.engine);
    signal.throwIfAborted();
    if (fault === undefined) return opened;
    if (choice !== "auto") throw new BlipError("gpu-error", fault);
    this.#engine = undefined;
    opened.engine.free();
    const engine = await module.Engine.open("cpu");
    const second = this.#adopt({ engine, device: "cpu", fallbackReason: fault }, progress);
    await load(engine, model, progress, signal);
    return second;
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

  async #selfTest({ id }: SelfTestRequest, signal: AbortSignal): Promise<void> {
    if (this.#engine === undefined) throw new BlipError("internal", "a self-test was asked for before the engine was created");
    const json = await this.#engine.selfTest();
    signal.throwIfAborted();
    this.#post({ type: "selfTested", id, result: JSON.parse(json) as SelfTest });
  }
}

/** Streams a model into an engine. */
async function load(engine: Engine, model: RemoteModel, progress: Report, signal: AbortSignal): Promise<void> {
  engine.beginLoad(model.manifest.json);
  await model.pourWeights((piece) => engine.push(piece));
  signal.throwIfAborted();
  progress({ phase: "load" });
  await engine.finishLoad(model.vocab);
  signal.throwIfAborted();
}

function run(engine: Engine, image: ImagePayload, options: EngineOptions, onProgress: OnProgress): Promise<string> {
  const json = JSON.stringify(options);
  return image.kind === "encoded"
    ? engine.caption(image.bytes, json, onProgress)
    : engine.captionPixels(image.rgba, image.width, image.height, json, onProgress);
}
