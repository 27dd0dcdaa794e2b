/**
 * The messages between the page and the engine, and the errors both sides speak of.
 *
 * Every request has an id and every response names the request it answers, so that calls can overlap
 * and a late answer to a cancelled call is recognised and dropped.
 */

import type { EngineOptions } from "./options.js";
import type { BlipInfo, SelfTest } from "./info.js";

/** The stable codes of the Rust crate (`ErrorKind::code`), in its order. A test holds the two lists together. */
export const ERROR_CODES = [
  "bad-image",
  "image-too-large",
  "bad-option",
  "bad-config",
  "bad-vocabulary",
  "weights-format",
  "weights-missing",
  "weights-unknown",
  "weights-shape",
  "weights-not-finite",
  "task-unsupported",
  "webgpu-unavailable",
  "feature-missing",
  "out-of-memory",
  "device-lost",
  "gpu-error",
  "download-failed",
  "integrity",
  "quota",
  "aborted",
  "disposed",
  "io",
  "internal",
] as const;

/** What went wrong, as a stable string to branch on. */
export type BlipErrorCode = (typeof ERROR_CODES)[number];

/** Every error of this package except a cancelled call, which rejects with the reason of its `AbortSignal`. */
export class BlipError extends Error {
  /** The stable code, the same in Rust and TypeScript. */
  readonly code: BlipErrorCode;

  constructor(code: BlipErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "BlipError";
    this.code = code;
  }
}

function isErrorCode(value: unknown): value is BlipErrorCode {
  return typeof value === "string" && (ERROR_CODES as readonly string[]).includes(value);
}

/**
 * The error to show for anything thrown: a known `code` is kept, the rest becomes `fallback`.
 * An `AbortError` becomes `aborted`.
 */
export function toBlipError(thrown: unknown, fallback: BlipErrorCode = "internal"): BlipError {
  if (thrown instanceof BlipError) return thrown;
  if (typeof thrown !== "object" || thrown === null) return new BlipError(fallback, String(thrown));
  const { code, name, message } = thrown as { code?: unknown; name?: unknown; message?: unknown };
  const text = typeof message === "string" && message !== "" ? message : String(thrown);
  if (isErrorCode(code)) return new BlipError(code, text, { cause: thrown });
  return new BlipError(name === "AbortError" ? "aborted" : fallback, text, { cause: thrown });
}

/** A step on the way to a usable instance. */
export type Progress =
  /** Bytes of the model so far, over all of its files; `file` is the one being read. */
  | { readonly phase: "download"; readonly file: string; readonly loaded: number; readonly total: number }
  /**
   * The device was opened; `fallbackReason` says why `auto` did not take the GPU. A second such step means
   * that the GPU failed its self-test: the model is read once more, for the CPU.
   */
  | { readonly phase: "device"; readonly device: "webgpu" | "cpu"; readonly fallbackReason?: string }
  /** The weights are on the device and become a model. */
  | { readonly phase: "load" }
  /** The kernels are compared with plain arithmetic; on a GPU only. */
  | { readonly phase: "selfTest" }
  /** Pipelines are being compiled with a blank image: `done` of `total` steps. */
  | { readonly phase: "compile"; readonly done: number; readonly total: number }
  /** The instance is ready. */
  | { readonly phase: "ready" };

/** An image on its way to the engine: encoded bytes as they came, or 8-bit RGBA rows without padding. */
export type ImagePayload =
  | { readonly kind: "encoded"; readonly bytes: Uint8Array }
  | { readonly kind: "pixels"; readonly rgba: Uint8Array; readonly width: number; readonly height: number };

/** What `Blip.create` asks of the engine; every URL is absolute. */
export interface CreateMessage {
  readonly device: "auto" | "webgpu" | "cpu";
  /** The address of the model's `blip.json`. */
  readonly manifestUrl: string;
  /** The address of `blip_bg.wasm`; left out, the engine takes the one beside its own script. */
  readonly wasmUrl?: string;
  /** The same of `blip_baseline_bg.wasm`. */
  readonly baselineWasmUrl?: string;
}

/** One caption: its text, the sum of the log-probabilities of its tokens, and the token ids. */
export interface Caption {
  readonly text: string;
  readonly logProb: number;
  readonly tokens: readonly number[];
}

/** What a caption call resolves to; `text` is the best caption, `captions` all that were asked for. */
export interface CaptionResult {
  readonly text: string;
  readonly captions: readonly Caption[];
  /** Where the time went, in milliseconds. */
  readonly ms: {
    /** Pixels to image tokens. */
    readonly encode: number;
    /** Keys and values of the image tokens; on a GPU only the handing over, the work is part of `caption`. */
    readonly ground: number;
    /** Image tokens to words, `ground` included. */
    readonly caption: number;
    /** Not a time: decoding steps, the end token's included. */
    readonly tokens: number;
  };
}

/** Page to engine. */
export type ToEngine =
  | { readonly type: "create"; readonly id: number; readonly create: CreateMessage }
  | { readonly type: "caption"; readonly id: number; readonly image: ImagePayload; readonly options: EngineOptions }
  | { readonly type: "selfTest"; readonly id: number }
  | { readonly type: "abort"; readonly id: number };

/** Engine to page. */
export type FromEngine =
  | { readonly type: "progress"; readonly id: number; readonly progress: Progress }
  | { readonly type: "token"; readonly id: number; readonly text: string; readonly index: number }
  | { readonly type: "created"; readonly id: number; readonly info: BlipInfo }
  | { readonly type: "captioned"; readonly id: number; readonly result: CaptionResult }
  | { readonly type: "selfTested"; readonly id: number; readonly result: SelfTest }
  | { readonly type: "failed"; readonly id: number; readonly code: BlipErrorCode; readonly message: string }
  /** The engine is gone: nothing more will be answered. */
  | { readonly type: "crashed"; readonly code: BlipErrorCode; readonly message: string };
