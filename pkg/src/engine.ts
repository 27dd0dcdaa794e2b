/**
 * The wasm module as this package uses it: the contract with `crate/src/wasm.rs`, and how it is started.
 *
 * The interfaces are written by hand so that the generated bindings are checked against them, and so
 * that tests can put another engine in their place.
 */

import { BlipError, toBlipError } from "./protocol.js";

/** A device with, after `load`, a model on it. */
export interface Engine {
  /** JSON of `AdapterInfo`. */
  adapter(): string;
  load(manifestJson: string, weights: Uint8Array, vocab: Uint8Array): Promise<void>;
  /** Compiles pipelines with a blank image; milliseconds. */
  warmUp(): Promise<number>;
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

/** Starts the module; `wasmUrl` replaces the file beside the bindings. */
export type StartModule = (wasmUrl: string | undefined, signal: AbortSignal) => Promise<EngineModule>;

/** The module of this thread: wasm-bindgen keeps one, so every engine here shares it. */
let started: Promise<EngineModule> | undefined;

/**
 * Fetches and instantiates the wasm, once a thread.
 *
 * @throws BlipError `download-failed` when it cannot be fetched, `internal` when it cannot be compiled.
 */
export const startModule: StartModule = (wasmUrl, signal) => {
  started ??= instantiate(wasmUrl, signal).catch((error: unknown) => {
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

async function instantiate(wasmUrl: string | undefined, signal: AbortSignal): Promise<EngineModule> {
  const url = wasmUrl ?? new URL("./wasm/blip_bg.wasm", import.meta.url).href;
  const [bindings, response] = await Promise.all([importBindings(), fetchWasm(url, signal)]);
  try {
    await bindings.default({ module_or_path: response });
  } catch (error) {
    throw signal.aborted ? error : toBlipError(error);
  }
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
