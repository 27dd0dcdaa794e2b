/**
 * An engine that outlives its device: opened, loaded, tested, and all of that once more when the GPU is
 * lost or the module trapped. A module that failed is left behind with its memory; the next one is new.
 */

import { gpuFault, type OpenedEngine, openEngine } from "./device.js";
import type { Engine, EngineModule, StartModule } from "./engine.js";
import type { AdapterInfo, BlipInfo } from "./info.js";
import type { OpenedModels, Report } from "./plan.js";
import { BlipError, type CreateMessage, type EngineEvent, toBlipError } from "./protocol.js";

/** How an engine is started and with what; `open` fetches the models that `create` names. */
export interface RuntimeOptions {
  readonly create: CreateMessage;
  readonly startModule: StartModule;
  readonly open: (signal: AbortSignal, report: Report) => Promise<OpenedModels>;
  readonly notify: (event: EngineEvent) => void;
}

/** An engine in use. */
interface Running {
  readonly module: EngineModule;
  readonly engine: Engine;
  readonly device: "webgpu" | "cpu";
  readonly fallbackReason?: string;
  /** Rejects when the module trapped or the device was lost: promises of its own may never settle then. */
  readonly trapped: Promise<never>;
  readonly trap: (thrown: unknown) => void;
}

/** One engine after another, of which callers see one. */
export class Runtime {
  readonly #options: RuntimeOptions;
  readonly #ended = new AbortController();
  #models: OpenedModels | undefined;
  #running: Running | undefined;
  /** The last engine that lost its device, and how. */
  #told: Running | undefined;
  #why = "the device was lost";
  #info: BlipInfo | undefined;
  #epoch = 0;

  constructor(options: RuntimeOptions) {
    this.#options = options;
  }

  /** Counts the engines; what belongs to an earlier one, such as a handle, is gone. */
  get epoch(): number {
    return this.#epoch;
  }

  /** The present engine; nothing between a loss and the next call. */
  get engine(): Engine | undefined {
    return this.#running?.engine;
  }

  /** Opens a device and loads the models, at the same time as far as possible; pipelines are compiled. */
  async start(report: Report, signal: AbortSignal): Promise<BlipInfo> {
    const begun = performance.now();
    const both = new AbortController();
    const stop = (): void => both.abort(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    // For good: the models can be read again as long as there is an engine to take them.
    this.#ended.signal.addEventListener("abort", () => both.abort(this.#ended.signal.reason), { once: true });
    // The engine starts while the models are opened; the first of the two to fail stops the other.
    const models = this.#options.open(both.signal, report);
    const running = this.#bring(models, report, both.signal);
    try {
      await Promise.all([models, running]);
    } catch (error) {
      both.abort(error);
      // An engine that opens late must be known before anyone frees it.
      await Promise.allSettled([models, running]);
      this.free();
      throw error;
    } finally {
      signal.removeEventListener("abort", stop);
    }
    this.#models = await models;
    const { module, engine, device, fallbackReason, trapped } = await running;
    const load = performance.now() - begun;
    signal.throwIfAborted();
    report({ phase: "compile", done: 0, total: 1 });
    let shown = 0;
    const onStep = (done: number, total: number): boolean => {
      if (done > shown) report({ phase: "compile", done, total });
      shown = done;
      return !signal.aborted && !this.#ended.signal.aborted;
    };
    const compile = await Promise.race([engine.warmUp(onStep), trapped]);
    report({ phase: "ready" });
    this.#info = {
      device,
      adapter: JSON.parse(engine.adapter()) as AdapterInfo,
      ...this.#models.info,
      ...loaded(engine),
      ...(fallbackReason === undefined ? {} : { fallbackReason }),
      version: module.version(),
      ms: { load, compile },
    };
    if (fallbackReason !== undefined) this.#options.notify({ type: "fallback", message: fallbackReason });
    return this.#info;
  }

  /**
   * Calls `work` with the engine and its module; once more with another engine when the first one is lost meanwhile.
   *
   * @throws what `work` throws; `device-lost` when the device cannot be opened again, or is lost again.
   */
  async use<T>(work: (engine: Engine, module: EngineModule) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const running = await this.#present();
      try {
        return await Promise.race([work(running.engine, running.module), running.trapped]);
      } catch (error) {
        const thrown = await lossBehind(error, running);
        if (!isLoss(thrown)) throw thrown;
        this.#lose(running, thrown);
        if (attempt === 2) throw thrown;
      }
    }
  }

  /** Tells that some module of this thread trapped in a callback, where no promise sees it. */
  trap(thrown: unknown): void {
    this.#running?.trap(thrown);
  }

  /** Stops a start, or the recovery from a loss; no other begins. */
  end(): void {
    this.#ended.abort(new BlipError("disposed", "the engine was closed"));
  }

  /** Frees the engine; nothing may be using it. */
  free(): void {
    const engine = this.#running?.engine;
    this.#running = undefined;
    try {
      engine?.free();
    } catch {
      // What is left of a lost device cannot be freed; the module is left behind as a whole.
    }
  }

  async #present(): Promise<Running> {
    if (this.#running !== undefined && this.#running !== this.#told) return this.#running;
    this.free();
    if (this.#models === undefined || this.#info === undefined) {
      throw new BlipError("internal", "a call came before the engine was created");
    }
    const before = this.#info.device;
    try {
      const running = await this.#bring(Promise.resolve(this.#models), () => {}, this.#ended.signal);
      const { device, engine, fallbackReason } = running;
      const { fallbackReason: _, ...info } = this.#info;
      this.#info = {
        ...info,
        device,
        adapter: JSON.parse(engine.adapter()) as AdapterInfo,
        ...(fallbackReason === undefined ? {} : { fallbackReason }),
      };
      this.#options.notify({ type: "devicerestored", message: `the model is on the ${named(device)} again`, info: this.#info });
      if (device !== before && fallbackReason !== undefined) this.#options.notify({ type: "fallback", message: fallbackReason });
      return running;
    } catch (error) {
      this.free();
      if (this.#ended.signal.aborted) throw this.#ended.signal.reason;
      const { message } = toBlipError(error);
      throw new BlipError("device-lost", `${this.#why}; it cannot be opened again: ${message}`, { cause: error });
    }
  }

  /** A new module with an engine that has the models and computes as it should. */
  async #bring(models: Promise<OpenedModels>, report: Report, signal: AbortSignal): Promise<Running> {
    const { create, startModule } = this.#options;
    const module = await startModule(create, signal);
    const opened = this.#adopt(module, await openEngine(module, create.device), report);
    await this.#load(opened, await models, report, signal);
    if (opened.device === "cpu") return opened;
    report({ phase: "selfTest" });
    const fault = await Promise.race([gpuFault(opened.engine), opened.trapped]);
    signal.throwIfAborted();
    if (fault === undefined) return opened;
    if (create.device !== "auto") throw new BlipError("gpu-error", fault);
    this.free();
    const engine = await module.Engine.open("cpu");
    const second = this.#adopt(module, { engine, device: "cpu", fallbackReason: fault }, report);
    await this.#load(second, await models, report, signal);
    return second;
  }

  async #load({ engine, trapped }: Running, models: OpenedModels, report: Report, signal: AbortSignal): Promise<void> {
    await Promise.race([models.loadInto(engine, report, signal), trapped]);
  }

  /** Makes an opened engine the present one, so that it is freed with this object. */
  #adopt(module: EngineModule, opened: OpenedEngine, report: Report): Running {
    let trap: (thrown: unknown) => void = () => {};
    const trapped = new Promise<never>((_, reject) => (trap = reject));
    // Whoever uses the engine gets it; between two uses nobody does.
    trapped.catch(() => {});
    const running: Running = { module, ...opened, trapped, trap };
    opened.engine.onLost((message) => {
      this.#tell(running, message);
      // What waits for the device may wait for ever.
      trap(new BlipError("device-lost", message));
    });
    this.#running = running;
    this.#epoch++;
    const { device, fallbackReason } = opened;
    report({ phase: "device", device, ...(fallbackReason === undefined ? {} : { fallbackReason }) });
    return running;
  }

  /** Notes that an engine lost its device, once. */
  #tell(running: Running, message: string): void {
    if (this.#running !== running || this.#told === running) return;
    this.#told = running;
    this.#why = message;
    this.#options.notify({ type: "devicelost", message });
  }

  #lose(running: Running, thrown: unknown): void {
    if (this.#running !== running) return;
    this.#tell(running, toBlipError(thrown).message);
    if (!(thrown instanceof WebAssembly.RuntimeError)) return this.free();
    // After a trap the memory of the module is in an unknown state: it is not entered again, not even to
    // free the engine when nobody holds it any more.
    running.engine.__destroy_into_raw?.();
    this.#running = undefined;
  }
}

/** How long a browser may take to tell of a loss after the first operation has failed for it, in milliseconds. */
const TELLING = 250;

/** The loss of the device, where that is why the GPU refused something. */
async function lossBehind(thrown: unknown, { device, trapped }: Running): Promise<unknown> {
  if (device !== "webgpu" || (thrown as { code?: unknown } | undefined)?.code !== "gpu-error") return thrown;
  const told = trapped.catch((loss: unknown) => loss);
  return Promise.race([told, new Promise((resolve) => setTimeout(resolve, TELLING, thrown))]);
}

/** Whether another engine may do better: the device is gone, or the module trapped. */
function isLoss(thrown: unknown): boolean {
  return thrown instanceof WebAssembly.RuntimeError || (thrown as { code?: unknown } | undefined)?.code === "device-lost";
}

/** What only the engine knows of the models. */
function loaded(engine: Engine): Pick<BlipInfo, "fingerprint"> {
  const { fingerprint } = JSON.parse(engine.loaded()) as { fingerprint?: string | null };
  return typeof fingerprint === "string" ? { fingerprint } : {};
}

function named(device: "webgpu" | "cpu"): string {
  return device === "webgpu" ? "GPU" : "CPU";
}
