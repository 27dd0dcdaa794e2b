/** What the tasks answer. */

import type { Dtype } from "./protocol.js";

/** The answer for one image, or for each of several. */
export type Each<Input, Answer> = Input extends readonly unknown[] ? Answer[] : Answer;

/** One caption: its text, the sum of the log-probabilities of its tokens, and the token ids. */
export interface Caption {
  readonly text: string;
  readonly logProb: number;
  readonly tokens: readonly number[];
  /** The probability that text and image match, with the option `matchScore`. */
  readonly matchScore?: number;
}

/** What a caption call resolves to; `text` is the best caption, `captions` all that were asked for. */
export interface CaptionResult {
  readonly text: string;
  readonly captions: readonly Caption[];
  /** Where the time went, in milliseconds. */
  readonly ms: {
    /** Pixels to image tokens; 0 for an image that was encoded before. */
    readonly encode: number;
    /** Keys and values of the image tokens; on a GPU only the handing over, the work is part of `caption`. */
    readonly ground: number;
    /** Image tokens to words, `ground` included. */
    readonly caption: number;
    /** Not a time: decoding steps, the end token's included. */
    readonly tokens: number;
  };
}

/** One answer to a question. */
export interface Answer {
  readonly text: string;
  /** The sum of the log-probabilities of its tokens. */
  readonly logProb: number;
  /** Ranked answers: what the original's algorithm orders them by; higher is better. */
  readonly score?: number;
  /** Ranked answers: softmax of the scores over those that were ranked. */
  readonly probability?: number;
}

/** What `ask` resolves to; `text` is the best answer, `answers` all of them, best first. */
export interface AskResult {
  readonly text: string;
  readonly answers: readonly Answer[];
}

/** How well a text and an image belong together. */
export interface Match {
  readonly text: string;
  /** The image-text matching head: its logit and probability of a match. */
  readonly itm?: { readonly probability: number; readonly logit: number };
  /** The contrastive heads: the cosine of both projections, in [-1, 1]. */
  readonly itc?: number;
  /** Logit plus cosine where both heads were asked, as the original re-ranks; else what there is. */
  readonly score: number;
}

/** A label, best first in the answer of `classify`. */
export interface Label {
  readonly label: string;
  /** Over the labels; they sum to 1. */
  readonly probability: number;
  /** The cosine, or with `head: "itm"` the probability of a match; over several templates, their mean. */
  readonly score: number;
}

/** Features of an image, a text, or both: `data` has the product of `shape` numbers, row by row. */
export interface Embedding {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** The part of an image that a token, a word or a whole text refers to: `[height, width]` numbers, row by row. */
export type RelevanceMap = Float32Array;

/** What `explain` resolves to. Maps are at least 0 and not normalised, so those of one text can be compared. */
export interface Explanation {
  /** How the gradient was computed. */
  readonly method: string;
  /** The layer whose cross-attention is shown, from 0. */
  readonly layer: number;
  /** Height and width of the maps; for a video, one map after another in each. */
  readonly grid: readonly [height: number, width: number];
  /** Maps in each map: 1, or as many as the video has frames. */
  readonly frames: number;
  /** The probability that text and image match. */
  readonly probability: number;
  readonly tokens: readonly { readonly text: string; readonly id: number; readonly word: number | null; readonly map: RelevanceMap }[];
  /** Words and the tokens they are made of; special tokens belong to none. */
  readonly words: readonly { readonly text: string; readonly tokens: readonly number[]; readonly map: RelevanceMap }[];
  /** The mean over the tokens of the text. */
  readonly sentence: RelevanceMap;
}

/** Whether a statement about two images is true. */
export interface Nlvr2Result {
  readonly answer: boolean;
  /** Of the statement being true. */
  readonly probability: number;
  /** Of false and of true. */
  readonly logits: readonly [number, number];
}

/** A candidate answer in a dialogue, best first in the answer of `dialogue`. */
export interface DialogueAnswer {
  readonly text: string;
  /** That it fits, by the matching head alone: those of several candidates do not sum to 1. */
  readonly probability: number;
  /** The matching head's logit. */
  readonly logit: number;
}

/** What the engine holds, in bytes. */
export interface MemoryUse {
  /** In use on the GPU, as its allocator counts; 0 on the CPU. */
  readonly gpuBytes: number;
  /** Taken from the GPU, free parts of its pages included. */
  readonly gpuReserved: number;
  /** Encoded images that are alive. */
  readonly pictures: number;
  /** The memory of the WebAssembly module, which never shrinks while an instance lives. */
  readonly wasmBytes: number;
}

/** What can be known about a model before it is created. */
export interface Availability {
  /**
   * `available`: all of it is in the cache. `downloadable`: some of it has to be downloaded first.
   * `downloading`: this page, or another of this origin, is doing so right now. `unavailable`: `reason` says why not.
   */
  readonly state: "unavailable" | "downloadable" | "downloading" | "available";
  /** The device that `create` would take; a GPU may still fail its self-test there. */
  readonly device: "webgpu" | "cpu";
  /** Why it is unavailable, or why `device: "auto"` would not take the GPU. */
  readonly reason?: string;
  /** Bytes that `create` would download; of a repository, those of the original file. */
  readonly downloadBytes: number;
  /** Bytes of the same that are here already; always 0 where the cache is not used. */
  readonly cachedBytes: number;
  /**
   * About what the weights will take on the GPU: the bytes of their files, less where image encoders turn out to
   * be equal. 0 on the CPU; absent for a repository that was not converted yet.
   */
  readonly gpuBytes?: number;
  /** How a converted model would be stored; a model with a manifest has its own. */
  readonly dtype: Dtype;
}
