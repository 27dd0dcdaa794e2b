/**
 * The wasm module as this package uses it: the contract with `crate/src/wasm.rs`, and how it is started.
 *
 * The interfaces are written by hand so that the generated bindings are checked against them, and so
 * that tests can put another engine in their place.
 */

import { BlipError, toBlipError } from "./protocol.js";

/** A device with, after `finishLoad`, a model on it. */
export interface Engine {
  /** JSON of `AdapterInfo`. */
  adapter(): string;
  /** Begins a model whose weights come next; what was begun before is dropped. */
  beginLoad(manifestJson: string): void;
  /** The next bytes of the weights file; they are verified, and on their way to the device when it returns. */
  push(bytes: Uint8Array): void;
  /** The model, after the last byte of its weights. */
  finishLoad(vocab: Uint8Array): Promise<void>;
  /** Compiles pipelines with a blank image, step by step; milliseconds. */
  warmUp(onProgress: (done: number, total: number) => void): Promise<number>;
  /** Compares every kernel that the model uses with plain arithmetic; JSON of `SelfTest`. */
  selfTest(): Promise<string>;
  /** Captions an encoded image; `onProgress` gets the text so far and returns false to stop. JSON of `CaptionResult`. */
  caption(bytes: Uint8Array, optionsJson: string, onProgress: OnProgress): Promise<string>;
  /** The same for 8-bit RGBA rows. */
  captionPixels(
    rgba: Uint8Array,
    width: number,
    height: number,
    optionsJson: string,
    onProgress: OnProgress,
  ): Promise<string>;
  free(): void;
}

/** Called after every token with the text so far of caption `index`; false stops the generation. */
export type OnProgress = (text: string, index: number) => boolean;

/** The module, once its wasm runs. */
export interface EngineModule {
  readonly Engine: { open(device: "webgpu" | "cpu"): Promise<Engine> };
  version(): string;
}

/** Addresses that replace those of the two modules beside the bindings. */
export interface WasmUrls {
  readonly wasmUrl?: string;
  /** The one for browsers without relaxed SIMD. */
  readonly baselineWasmUrl?: string;
}

/** Starts the module. */
export type StartModule = (urls: WasmUrls, signal: AbortSignal) => Promise<EngineModule>;

/** The module of this thread: wasm-bindgen keeps one, so every engine here shares it. */
let started: Promise<EngineModule> | undefined;

/**
 * Fetches and instantiates the wasm, once a thread.
 *
 * @throws BlipError `download-failed` when it cannot be fetched, `internal` when it cannot be compiled.
 */
export const startModule: StartModule = (urls, signal) => {
  started ??= instantiate(urls, signal).catch((error: unknown) => {
    started = undefined;
    throw error;
  });
  return started;
};

/** After a trap the memory of the module is in an unknown state: no engine may enter it again. */
export function retireModule(reason: string): void {
  started = Promise.reject(new BlipError("internal", `${reason}; reload the page to start again in this thread`));
  started.catch(() => {});
}

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

/** Whether this browser runs relaxed SIMD. */
export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(RELAXED_SIMD);
}

async function instantiate(urls: WasmUrls, signal: AbortSignal): Promise<EngineModule> {
  const relaxed = hasRelaxedSimd();
  const url = relaxed
    ? (urls.wasmUrl ?? new URL("./wasm/blip_bg.wasm", import.meta.url).href)
    : (urls.baselineWasmUrl ?? new URL("./wasm/blip_baseline_bg.wasm", import.meta.url).href);
  const [bindings, response] = await Promise.all([importBindings(), fetchWasm(url, signal)]);
  try {
    await bindings.default({ module_or_path: response });
  } catch (error) {
    throw signal.aborted ? error : toBlipError(error);
  }
  if (relaxed) bindings.enableRelaxedSimd();
  return bindings;
}

async function importBindings(): Promise<typeof import("./wasm/blip.js")> {
  try {
    return await import("./wasm/blip.js");
  } catch (error) {
    throw toBlipError(error, "download-failed");
  }
}

async function fetchWasm(url: string, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    throw signal.aborted ? error : toBlipError(error, "download-failed");
  }
  if (!response.ok) throw new BlipError("download-failed", `${url}: HTTP status ${response.status}`);
  return response;
}
