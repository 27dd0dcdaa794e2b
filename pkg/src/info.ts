/** What a ready instance says about itself. */

import type { KnownWords, Quantisation } from "./manifest.js";

/** The device that computes, as the browser names it; `vendor` is `cpu` on the CPU. */
export interface AdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** A software rasteriser stands in for a GPU. */
  readonly isFallbackAdapter: boolean;
  /** WebGPU features that the engine found; on the CPU `simd128` and, where the browser has it, `relaxed-simd`. */
  readonly features: readonly string[];
}

/** The loaded model. */
export interface ModelInfo {
  readonly id: string;
  readonly tasks: readonly string[];
  /** How its matrices are stored. */
  readonly quantisation: Quantisation;
  readonly licence: string;
  /** Bytes of its files. */
  readonly bytes: number;
}

/** One operation of the engine on its device, against plain arithmetic. */
export interface SelfTestCheck {
  /** What was computed, such as `matrix product` or `cached attention`. */
  readonly name: string;
  /** How the weights it read are stored: `f32`, `q8` or `q4`. */
  readonly format: string;
  /** The greatest difference, relative to the size of the values. */
  readonly error: number;
  /** The greatest difference that the number formats explain. */
  readonly allowed: number;
  readonly ok: boolean;
}

/** What a self-test found. */
export interface SelfTest {
  readonly device: "webgpu" | "cpu";
  /** Whether every check held. */
  readonly ok: boolean;
  readonly checks: readonly SelfTestCheck[];
}

/** Everything about an instance; only the device can change, when it was lost. */
export interface BlipInfo {
  readonly device: "webgpu" | "cpu";
  readonly adapter: AdapterInfo;
  /** The model, or the first of several. */
  readonly model: ModelInfo;
  readonly models: readonly ModelInfo[];
  /** What the networks of all models were trained for. */
  readonly tasks: readonly string[];
  /** Names image encoder and contrastive heads: galleries of equal ones can be searched alike. */
  readonly fingerprint?: string;
  /** What the model was trained to name, where its manifest says so. */
  readonly knows?: KnownWords;
  /**
   * Why `device: "auto"` did not take the GPU: there is no real one, its self-test failed, or it was lost.
   * Absent when it did, or when a device was asked for.
   */
  readonly fallbackReason?: string;
  /** Version of the engine. */
  readonly version: string;
  /** Milliseconds from the call of `create` to loaded weights, and those of compiling pipelines. */
  readonly ms: { readonly load: number; readonly compile: number };
}
