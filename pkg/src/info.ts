/** What a ready instance says about itself. */

import type { KnownWords } from "./manifest.js";

/** The device that computes, as the browser names it; `vendor` is `cpu` on the CPU. */
export interface AdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** A software rasteriser stands in for a GPU. */
  readonly isFallbackAdapter: boolean;
  /** WebGPU features that the engine found. */
  readonly features: readonly string[];
}

/** The loaded model. */
export interface ModelInfo {
  readonly id: string;
  readonly tasks: readonly string[];
  /** Element type of the stored weights. */
  readonly dtype: string;
  readonly licence: string;
  /** Bytes that were downloaded for it. */
  readonly bytes: number;
}

/** Everything about an instance that does not change. */
export interface BlipInfo {
  readonly device: "webgpu" | "cpu";
  readonly adapter: AdapterInfo;
  readonly model: ModelInfo;
  /** What the model was trained to name, where its manifest says so. */
  readonly knows?: KnownWords;
  /** Why `device: "auto"` did not take the GPU; absent when it did, or when a device was asked for. */
  readonly fallbackReason?: string;
  /** Version of the engine. */
  readonly version: string;
  /** Milliseconds from the call of `create` to loaded weights, and those of compiling pipelines. */
  readonly ms: { readonly load: number; readonly compile: number };
}
