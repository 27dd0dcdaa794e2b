/** The class a page works with. */

import { abortable } from "./abort.js";
import { inlineChannel, workerChannel } from "./channel.js";
import { Client } from "./client.js";
import { type ImageSource, readImage } from "./images.js";
import type { BlipInfo, SelfTest } from "./info.js";
import { type CaptionOptions, engineOptions } from "./options.js";
import { BlipError, type CaptionResult, type CreateMessage, type ImagePayload, type Progress } from "./protocol.js";
import { CaptionStream } from "./stream.js";

/** How to create an instance. */
export interface CreateOptions {
  /** Id of a model in `modelBase`: a directory of that name with a `blip.json`. Default `tiny`. */
  model?: string;
  /** Where model directories are; default: `models/` of the package. Relative to the page. */
  modelBase?: string | URL;
  /** Address of a `blip.json`, or of its directory with a final slash; used instead of `model` and `modelBase`. */
  modelUrl?: string | URL;
  /**
   * `webgpu` and `cpu` are followed or refused. `auto` (default) takes WebGPU where there is a real GPU that
   * passes the self-test, and the CPU otherwise; `info.fallbackReason` and the `device` step of `onProgress`
   * say why.
   */
  device?: "auto" | "webgpu" | "cpu";
  /** Run in a worker (default), so that the page stays responsive; `false` runs in the calling thread. */
  worker?: boolean;
  /** Makes the worker, where a bundler or a policy needs its own way to `blip-web/worker`. */
  createWorker?: () => Worker;
  /** Address of `blip_bg.wasm`, where it is not beside the package's scripts. */
  wasmUrl?: string | URL;
  /** Address of `blip_baseline_bg.wasm`, which browsers without relaxed SIMD get instead, likewise. */
  baselineWasmUrl?: string | URL;
  /** Cancels the creation. */
  signal?: AbortSignal;
  /** Called with every step of the creation. */
  onProgress?: (progress: Progress) => void;
}

/**
 * A model on a device. Calls run one after another, in the order they are made.
 *
 * ```js
 * const blip = await Blip.create();
 * const { text } = await blip.caption(file);
 * await blip.dispose();
 * ```
 */
export class Blip {
  /** Device, adapter, model and what the model knows. */
  readonly info: BlipInfo;
  readonly #client: Client;
  #lastRead: Promise<void> = Promise.resolve();

  private constructor(client: Client, info: BlipInfo) {
    this.#client = client;
    this.info = info;
  }

  /**
   * Opens a device, downloads and verifies a model, tests the device, and compiles its pipelines.
   *
   * @throws BlipError with a stable `code`; the reason of `signal` when it is aborted.
   */
  static async create(options: CreateOptions = {}): Promise<Blip> {
    const { signal, onProgress = () => {} } = options;
    const message = createMessage(options);
    signal?.throwIfAborted();
    const client = new Client(options.worker === false ? inlineChannel() : workerChannel(options.createWorker));
    try {
      return new Blip(client, await client.create(message, onProgress, signal));
    } catch (error) {
      void client.close();
      throw error;
    }
  }

  /**
   * Captions an image.
   *
   * @throws BlipError with a stable `code`; the reason of `options.signal` when it is aborted.
   */
  async caption(image: ImageSource, options: CaptionOptions = {}): Promise<CaptionResult> {
    const { signal, onToken = () => {} } = options;
    this.#client.assertOpen();
    signal?.throwIfAborted();
    const checked = engineOptions(options);
    const payload = await abortable(this.#inOrder(readImage(image, signal)), signal);
    return this.#client.caption(payload, checked, onToken, signal);
  }

  /** The image, not before those of earlier calls: a large file must not be overtaken by a small one. */
  #inOrder(reading: Promise<ImagePayload>): Promise<ImagePayload> {
    const turn = this.#lastRead.then(() => reading);
    this.#lastRead = turn.then(ignore, ignore);
    reading.catch(ignore);
    return turn;
  }

  /** Captions an image token by token; leaving the loop cancels the rest. */
  captionStream(image: ImageSource, options: CaptionOptions = {}): CaptionStream {
    const start = (onToken: (text: string, index: number) => void, signal: AbortSignal): Promise<CaptionResult> => {
      const both = (text: string, index: number): void => {
        onToken(text, index);
        options.onToken?.(text, index);
      };
      return this.caption(image, { ...options, onToken: both, signal });
    };
    return new CaptionStream(start, options.signal);
  }

  /**
   * Computes a small problem with every kernel that the model uses and compares with plain arithmetic;
   * on WebGPU, `create` has done so already. A mismatch is a result, not an error.
   *
   * @throws BlipError `gpu-error` when the device refuses to compute.
   */
  async selfTest({ signal }: { signal?: AbortSignal } = {}): Promise<SelfTest> {
    return this.#client.selfTest(signal);
  }

  /** Stops what is running and frees memory and GPU; pending calls reject with `disposed`. Safe to repeat. */
  async dispose(): Promise<void> {
    await this.#client.close();
  }

  /** For `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

const ignore = (): void => {};

function createMessage(options: CreateOptions): CreateMessage {
  const { device = "auto", wasmUrl, baselineWasmUrl } = options;
  if (device !== "auto" && device !== "webgpu" && device !== "cpu") {
    throw new BlipError("bad-option", `device is ${String(device)}, expected "auto", "webgpu" or "cpu"`);
  }
  return {
    device,
    manifestUrl: manifestUrl(options),
    ...(wasmUrl === undefined ? {} : { wasmUrl: absolute("wasmUrl", wasmUrl) }),
    ...(baselineWasmUrl === undefined ? {} : { baselineWasmUrl: absolute("baselineWasmUrl", baselineWasmUrl) }),
  };
}

function manifestUrl({ model = "tiny", modelBase, modelUrl }: CreateOptions): string {
  if (modelUrl !== undefined) {
    const url = absolute("modelUrl", modelUrl);
    return url.endsWith("/") ? `${url}blip.json` : url;
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(model)) {
    throw new BlipError("bad-option", `model is ${JSON.stringify(model)}, expected the name of a model directory`);
  }
  const base = modelBase === undefined ? new URL("../models/", import.meta.url).href : absolute("modelBase", modelBase);
  return `${base.endsWith("/") ? base : `${base}/`}${model}/blip.json`;
}

/** Addresses are relative to the page, not to the worker that will fetch them. */
function absolute(name: string, url: string | URL): string {
  try {
    return new URL(url, typeof document === "undefined" ? import.meta.url : document.baseURI).href;
  } catch (error) {
    throw new BlipError("bad-option", `${name} is not an address: ${String(url)}`, { cause: error });
  }
}
