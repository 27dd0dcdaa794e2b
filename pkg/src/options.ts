/**
 * The options of a caption call. Their values are checked once, in Rust; here only unknown names and
 * values that JSON cannot carry are refused, because both would otherwise be lost without a word.
 */

import { BlipError } from "./protocol.js";

/** How to caption. Left out, an option has the value of the model's own generation defaults. */
export interface GenerationOptions {
  /** Words that the caption continues; they are not repeated in its text. */
  prompt?: string;
  /** Hypotheses of the beam search; 1 is greedy. */
  numBeams?: number;
  /** Nucleus sampling instead of the search for the most likely caption. */
  sample?: boolean;
  /** While sampling: only this many of the most likely tokens; 0 is all of them. */
  topK?: number;
  /** While sampling: only the most likely tokens that together have this probability, in (0, 1]. */
  topP?: number;
  /** While sampling: above 1 evens the probabilities out, below 1 sharpens them. */
  temperature?: number;
  /** Above 1 makes tokens that were already used less likely; 1 is off. */
  repetitionPenalty?: number;
  /** The least number of tokens, special ones included. */
  minLength?: number;
  /** The greatest number of tokens, special ones included. */
  maxLength?: number;
  /** Beam search: the exponent of the length that a hypothesis' score is divided by. */
  lengthPenalty?: number;
  /** Beam search: which tokens count for that length, as in `transformers` or as in the original code. */
  lengthRule?: "hf" | "orig";
  /** How many captions to return. */
  numCaptions?: number;
  /** The seed of sampling; equal seeds give equal captions. */
  seed?: number;
  /** Turn the image as its EXIF orientation says (default) or leave it as it is stored. */
  applyExif?: boolean;
  /** Put transparent images on white (default), or drop the alpha channel as the reference code does. */
  alpha?: "white" | "discard";
}

/** The options of a call as the engine reads them, before JSON. */
export type EngineOptions = Readonly<GenerationOptions>;

/** A call's options: how to caption, and how to stop. */
export interface CaptionOptions extends GenerationOptions {
  /** Cancels the call: it rejects with the signal's reason, and the engine stops within a token. */
  signal?: AbortSignal;
  /** Called after every token with the text so far of caption `index`; a beam search may take words back. */
  onToken?: (text: string, index: number) => void;
}

const OPTION_NAMES: ReadonlySet<string> = new Set<keyof GenerationOptions>([
  "prompt",
  "numBeams",
  "sample",
  "topK",
  "topP",
  "temperature",
  "repetitionPenalty",
  "minLength",
  "maxLength",
  "lengthPenalty",
  "lengthRule",
  "numCaptions",
  "seed",
  "applyExif",
  "alpha",
]);

/**
 * The part of `options` that the engine reads.
 *
 * @throws BlipError `bad-option` for an unknown name or a value that is not a string, boolean or finite number.
 */
export function engineOptions(options: CaptionOptions): EngineOptions {
  const { signal: _signal, onToken: _onToken, ...rest } = options;
  for (const [name, value] of Object.entries(rest)) {
    if (value === undefined) continue;
    if (!OPTION_NAMES.has(name)) {
      throw new BlipError("bad-option", `unknown option \`${name}\`; known are ${[...OPTION_NAMES].join(", ")}`);
    }
    const representable = typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);
    if (!representable) {
      throw new BlipError("bad-option", `option \`${name}\` is ${String(value)}, expected a string, boolean or finite number`);
    }
  }
  return rest;
}
