/**
 * The wasm module as this package uses it: the contract with `crate/src/wasm`, and how it is started.
 *
 * The interfaces are written by hand so that the generated bindings are checked against them, and so
 * that tests can put another engine in their place.
 */

import { abortable } from "./abort.js";
import type { GalleryModule } from "./gallery-engine.js";
import type { ConversionModule } from "./hub.js";
import { BlipError, toBlipError } from "./protocol.js";

/** A picture for the engine: an encoded image, or RGBA rows. */
export type EnginePicture =
  | Uint8Array
  | { readonly rgba: Uint8Array; readonly width: number; readonly height: number };

/** A device with, after `finishLoad`, models on it. */
export interface Engine {
  /** JSON of `AdapterInfo`. */
  adapter(): string;
  /** Calls `listener` with a message when the GPU is lost. */
  onLost(listener: (message: string) => void): void;
  /** Begins another model, whose weights come next; an unfinished one is dropped. */
  beginLoad(manifestJson: string): void;
  /** The next bytes of the weights files; they are verified, and on their way to the device when it returns. */
  push(bytes: Uint8Array): void;
  /**
   * Adds the model to the others, after the last byte of its weights; of its networks only those that serve one
   * of these tasks, a JSON list.
   */
  finishLoad(vocab: Uint8Array, tasksJson?: string): Promise<void>;
  /** JSON: tasks and parts of the loaded models, how many image encoders they have, and their fingerprint. */
  loaded(): string;
  /**
   * Compiles pipelines with a blank image, step by step; milliseconds. `onProgress` hears of a step more than
   * once; false stops it.
   */
  warmUp(onProgress: (done: number, total: number) => boolean): Promise<number>;
  /** Compares every kernel that the model uses with plain arithmetic; JSON of `SelfTest`. */
  selfTest(): Promise<string>;
  /**
   * Encodes up to `BATCH` images together, or frames of one video; a handle for each picture. Of several image
   * encoders those run that the request looks with; without one, those of the option `tasks`, or else the first.
   */
  encode(images: EnginePicture[], optionsJson: string, requestJson?: string): Promise<Uint32Array>;
  /** Frees a picture. */
  release(handle: number): void;
  /** Answers a request about pictures: JSON of `{results}`, and arrays of numbers that belong to them. */
  run(requestJson: string, handles: Uint32Array, onEvent: OnEvent): Promise<[string, ...Float32Array[]]>;
  /** JSON of `MemoryUse`. */
  memory(): string;
  /** Frees the models, and the device. */
  free(): void;
  /** Of the bindings: gives the engine up without entering the module. */
  __destroy_into_raw?(): number;
}

/** The most images that `Engine.encode` takes at once. */
export const BATCH = 8;

/**
 * Called while a request runs; false stops it. With a text: that of sequence `a` so far. Without one: `a` of
 * `b` steps are done.
 */
export type OnEvent = (text: string | undefined, a: number, b: number) => boolean;

/** A running module: its memory, and the GPU device that its engines share. */
export interface EngineModule extends GalleryModule {
  readonly Engine: { open(device: "webgpu" | "cpu"): Promise<Engine> };
  /** Makes models of repositories' files. */
  readonly Conversion: ConversionModule;
  version(): string;
}

/** Addresses that replace those of the two modules beside the bindings. */
export interface WasmUrls {
  readonly wasmUrl?: string;
  /** The one for browsers without relaxed SIMD. */
  readonly baselineWasmUrl?: string;
}

/** Starts a module with memory of its own. */
export type StartModule = (urls: WasmUrls, signal: AbortSignal) => Promise<EngineModule>;

/** Modules by address, compiled once a thread: what is started from them shares nothing but code. */
const compiled = new Map<string, Promise<WebAssembly.Module>>();

/**
 * Fetches and compiles the wasm, once a thread, and starts it.
 *
 * @throws BlipError `download-failed` when it cannot be fetched, `internal` when it cannot be compiled.
 */
export const startModule: StartModule = async (urls, signal) => {
  const relaxed = hasRelaxedSimd();
  const url = relaxed
    ? (urls.wasmUrl ?? new URL("./wasm/blip_bg.wasm", import.meta.url).href)
    : (urls.baselineWasmUrl ?? new URL("./wasm/blip_baseline_bg.wasm", import.meta.url).href);
  const [{ bindings }, code] = await Promise.all([importBindings(), abortable(compile(url), signal)]);
  const module = bindings();
  try {
    await module.init({ module_or_path: code });
  } catch (error) {
    throw toBlipError(error);
  }
  if (relaxed) module.enableRelaxedSimd();
  return module;
};

/**
 * A function of one instruction, `i8x16.relaxed_swizzle`. A browser that does not know it would refuse any
 * module that holds it, so there are two: see `xtask/src/wasm.rs`.
 */
const RELAXED_SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, // magic, version
  1, 5, 1, 96, 0, 1, 123, // a type: nothing to v128
  3, 2, 1, 0, // a function of that type
  10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11, // splat 1, splat 2, swizzle
]);

/** The same of `i8x16.popcnt`, which no module of this package can do without. */
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0,
  1, 5, 1, 96, 0, 1, 123,
  3, 2, 1, 0,
  10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** Whether this browser runs SIMD at all. */
export function hasSimd(): boolean {
  return WebAssembly.validate(SIMD);
}

/** Whether this browser runs relaxed SIMD. */
export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(RELAXED_SIMD);
}

/** Without a signal: others may wait for the same code. */
function compile(url: string): Promise<WebAssembly.Module> {
  let code = compiled.get(url);
  if (code === undefined) {
    code = fetchAndCompile(url);
    compiled.set(url, code);
    // Whoever comes next tries again.
    code.catch(() => compiled.delete(url));
  }
  return code;
}

async function fetchAndCompile(url: string): Promise<WebAssembly.Module> {
  try {
    const response = await fetch(url);
    if (!response.ok) throw new BlipError("download-failed", `${url}: HTTP status ${response.status}`);
    // The streaming compiler refuses a server that does not know the type of the file.
    const typed = response.headers.get("Content-Type")?.startsWith("application/wasm") === true;
    return await (typed ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer()));
  } catch (error) {
    // No connection, or a cut one, is a TypeError; code that is none, or a policy, a CompileError.
    throw toBlipError(error, error instanceof TypeError ? "download-failed" : "internal");
  }
}

async function importBindings(): Promise<typeof import("./wasm/blip.js")> {
  try {
    return await import("./wasm/blip.js");
  } catch (error) {
    throw toBlipError(error, "download-failed");
  }
}
