/**
 * The messages between the page and the engine, and the errors both sides speak of.
 *
 * Every request has an id and every response names the request it answers, so that calls can overlap
 * and a late answer to a cancelled call is recognised and dropped.
 */

import type { BlipInfo } from "./info.js";
import type { ImageOptions, TaskName } from "./options.js";
import type { ModelPlan } from "./sources.js";

export type { Caption, CaptionResult } from "./results.js";

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
  /** Which image of an array the error is about, where it is about one. */
  readonly image?: number;

  constructor(code: BlipErrorCode, message: string, options?: ErrorOptions & { image?: number | undefined }) {
    super(message, options);
    this.name = "BlipError";
    this.code = code;
    if (options?.image !== undefined) this.image = options.image;
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
  /**
   * Bytes of the model so far, over all of its files; `file` is the one being read. `total` is the same from
   * the first step on. `fromCache` says that these bytes did not come from the network.
   */
  | {
      readonly phase: "download";
      readonly file: string;
      readonly loaded: number;
      readonly total: number;
      readonly fromCache?: boolean;
    }
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

/** An image of a request: one that comes with it, or one that the engine has encoded before. */
export type PictureInput = ImagePayload | { readonly kind: "picture"; readonly picture: number };

/** How images are read that come without a request, and what they will be asked for. */
export interface EncodeRequest extends Readonly<ImageOptions> {
  readonly tasks?: readonly string[];
}

/** How a matrix of a converted model can be stored. */
export const DTYPES = ["q4", "q8", "f16", "f32"] as const;

/** One of `DTYPES`. */
export type DtypeName = (typeof DTYPES)[number];

/** How the matrices of a converted model are stored, by side. */
export interface Dtype {
  /** Those of the image encoder. */
  readonly vision: DtypeName;
  /** Those of the text networks and the heads. */
  readonly text: DtypeName;
}

/** Where verified weights are kept: `auto` is the Cache API where there is one; `none` keeps nothing. */
export type CacheMode = "auto" | "cache" | "memory" | "none";

/** What `Blip.create` asks of the engine; every URL is absolute. */
export interface CreateMessage {
  readonly device: "auto" | "webgpu" | "cpu";
  /** The models to load, one after the other. */
  readonly plan: ModelPlan;
  /** Only networks for these, all of which there must be; left out, every network is loaded. */
  readonly tasks?: readonly string[];
  readonly dtype: Dtype;
  readonly cache: CacheMode;
  /** The address of `blip_bg.wasm`; left out, the engine takes the one beside its own script. */
  readonly wasmUrl?: string;
  /** The same of `blip_baseline_bg.wasm`. */
  readonly baselineWasmUrl?: string;
}

/** A question to the model, as `tasks::Request` of the crate reads it. */
export type TaskRequest = { readonly task: TaskName } & Readonly<Record<string, unknown>>;

/** What a request is answered with: one entry for each picture, and arrays of numbers that belong to them. */
export interface TaskAnswer {
  readonly results: readonly unknown[];
  readonly floats: readonly Float32Array[];
}

/** What the engine tells outside a call; `types` are those of `BlipEventMap`. */
export type EngineEvent =
  | { readonly type: "devicelost"; readonly message: string }
  | { readonly type: "devicerestored"; readonly message: string; readonly info: BlipInfo }
  | { readonly type: "fallback" | "quota" | "refetched"; readonly message: string };

/** Page to engine. */
export type ToEngine =
  | { readonly type: "create"; readonly id: number; readonly create: CreateMessage }
  | {
      readonly type: "encode";
      readonly id: number;
      readonly images: readonly ImagePayload[];
      readonly options: EncodeRequest;
      /** The images are frames of one clip and become one picture. */
      readonly video: boolean;
    }
  | {
      readonly type: "run";
      readonly id: number;
      readonly request: TaskRequest;
      readonly pictures: readonly PictureInput[];
      /** How the images among `pictures` are read. */
      readonly options: ImageOptions;
    }
  | { readonly type: "selfTest"; readonly id: number }
  | { readonly type: "memory"; readonly id: number }
  | { readonly type: "gallery"; readonly id: number; readonly op: string; readonly args: readonly unknown[] }
  | { readonly type: "release"; readonly picture: number }
  | { readonly type: "abort"; readonly id: number };

/** Engine to page. */
export type FromEngine =
  | { readonly type: "progress"; readonly id: number; readonly progress: Progress }
  /** The text so far of sequence `index`, about picture `picture` of the request. */
  | { readonly type: "token"; readonly id: number; readonly text: string; readonly index: number; readonly picture: number }
  /** `done` of `total` pictures of the request, fractions included. */
  | { readonly type: "step"; readonly id: number; readonly done: number; readonly total: number }
  | { readonly type: "done"; readonly id: number; readonly value: unknown }
  | {
      readonly type: "failed";
      readonly id: number;
      readonly code: BlipErrorCode;
      readonly message: string;
      /** Which picture of the request it is about. */
      readonly picture?: number;
    }
  | { readonly type: "event"; readonly event: EngineEvent }
  /** The engine is gone: nothing more will be answered. */
  | { readonly type: "crashed"; readonly code: BlipErrorCode; readonly message: string };
