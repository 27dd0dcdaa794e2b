/**
 * The options of calls. Their values are checked once, in Rust; here only unknown names and values that
 * JSON cannot carry are refused, because both would otherwise be lost without a word.
 */

import { BlipError } from "./protocol.js";
import type { TaskName as KnownTask } from "./sources.js";

export type { KnownTask };

/**
 * How texts are prepared. `orig` (default) as the original code does, and as the models were trained: lower case,
 * without punctuation, 30 words (beside a video 40), `[ENC]` first where text looks at an image. `lavis` is the same
 * with 50 words. `hf` is `transformers`: the text as it is, `[CLS]` first. Scores of different conventions differ.
 */
export type Convention = "orig" | "hf" | "lavis";

/** How pictures are read. */
export interface ImageOptions {
  /** Turn the image as its EXIF orientation says (default) or leave it as it is stored. */
  applyExif?: boolean;
  /** Put transparent images on white (default), or drop the alpha channel as the reference code does. */
  alpha?: "white" | "discard";
}

/** How far a call is: `done` of `total` images, fractions included. */
export interface CallProgress {
  readonly done: number;
  readonly total: number;
}

/** What every long call takes. */
export interface CallOptions {
  /** Cancels the call: it rejects with the signal's reason, and the engine stops within a step. */
  signal?: AbortSignal;
  /** Called while the call runs. */
  onProgress?: (progress: CallProgress) => void;
}

/**
 * How to write words. Left out, captions are greedy with at most 30 tokens, and answers have 3 beams and at most 10,
 * or with `convention: "hf"` one and 20.
 */
export interface GenerationOptions extends ImageOptions {
  /** Words that the caption continues; they are not repeated in its text. */
  prompt?: string;
  /** Hypotheses of the beam search, 1 to 16; 1 is greedy. */
  numBeams?: number;
  /** Nucleus sampling instead of the search for the most likely caption. */
  sample?: boolean;
  /** With `sample`: only this many of the most likely tokens (default 50); 0 is all of them. */
  topK?: number;
  /** With `sample`: only the most likely tokens that together have this probability, in (0, 1] (default 0.9). */
  topP?: number;
  /** With `sample`: above 1 evens the probabilities out, below 1 sharpens them. */
  temperature?: number;
  /** Above 1 makes tokens that were already used less likely; 1 is off. */
  repetitionPenalty?: number;
  /** The least number of tokens, those of the prompt and the first one included (default 0). */
  minLength?: number;
  /** The greatest number of tokens, those of the prompt, the first and the end token included. */
  maxLength?: number;
  /** Beam search: the exponent of the length that a hypothesis' score is divided by. */
  lengthPenalty?: number;
  /** Beam search: which tokens count for that length, as in `transformers` or as in the original code. */
  lengthRule?: "hf" | "orig";
  /** Beam search: end when there are as many finished hypotheses as beams, even if a better one may still come. */
  earlyStopping?: boolean;
  /** How many captions to return, 1 to 16; without sampling, at most `numBeams`. */
  numCaptions?: number;
  /** With `sample`: its seed (default 0); equal seeds give equal captions. */
  seed?: number;
}

/** A call's options: how to caption, and how to stop. */
export interface CaptionOptions extends GenerationOptions, CallOptions {
  /** Adds the probability that caption and image match; needs an ITM network. */
  matchScore?: boolean;
  /**
   * Called after every token with the text so far of caption `index` of image number `image`; a beam search
   * may take words back.
   */
  onToken?: (text: string, index: number, image: number) => void;
}

/** How to answer a question: in words, or by ranking `answers`. */
export interface AskOptions extends Omit<GenerationOptions, "prompt" | "numCaptions">, CallOptions {
  /** A closed list: the answer is one of these, and each gets a score and a probability. */
  answers?: readonly string[];
  /** Ranking: how many answers with the most likely first token are scored in full (default 128). */
  candidates?: number;
  /** How the question is prepared, and which search is the default. */
  convention?: "orig" | "hf";
  /**
   * Of a video: the question looks at all frames together (`joint`, default), or at each frame by itself, and the
   * answer at what came of all of them (`apart`). The paper can be read in both ways.
   */
  frames?: "joint" | "apart";
  /** Called after every token, as in `CaptionOptions`; never for ranked answers. */
  onToken?: (text: string, index: number, image: number) => void;
}

/** How to match. */
export interface MatchOptions extends ImageOptions, CallOptions {
  /** Which heads to ask; default those that the model has. */
  heads?: readonly ("itm" | "itc")[];
  /** How texts are prepared (default `orig`). */
  convention?: Convention;
}

/** How to classify. */
export interface ClassifyOptions extends ImageOptions, CallOptions {
  /** Sentences with `{}` in the place of the label (default `a photo of {}`); several are averaged. */
  templates?: readonly string[];
  /** The contrastive heads (default, fast), or the matching head (one pass a label). */
  head?: "itc" | "itm";
  /** Divides the cosines before the softmax (default 0.07). */
  temperature?: number;
  /** How texts are prepared (default `orig`). */
  convention?: Convention;
}

/** Which features to return. */
export interface EmbedOptions extends ImageOptions, CallOptions {
  /**
   * The projection of the contrastive heads, of unit length (default, not for an image and a text together); the
   * first token's state (default for those); or the states of all tokens.
   */
  output?: "projection" | "class" | "tokens";
  /** How texts are prepared (default `orig`). */
  convention?: Convention;
}

/** How to explain. */
export interface ExplainOptions extends ImageOptions, CallOptions {
  /** The layer whose cross-attention is shown, from 0; default the one in the middle. */
  layer?: number;
  /** How the text is prepared (default `orig`). */
  convention?: Convention;
}

/** How to judge a statement. */
export interface Nlvr2Options extends ImageOptions, CallOptions {}

/** How to choose an answer in a dialogue. */
export interface DialogueOptions extends ImageOptions, CallOptions {}

/** How to encode images that will be used more than once. */
export interface EncodeOptions extends ImageOptions, CallOptions {
  /**
   * What they will be asked for, where models have an image encoder each: those for these tasks run at once, the
   * others when they are needed. Default: the encoder of the first model.
   */
  tasks?: readonly KnownTask[];
}

/** Of these nothing is seen unless tokens are drawn. */
const SAMPLING = ["topK", "topP", "temperature", "seed"] as const satisfies readonly (keyof GenerationOptions)[];
/** Of these nothing is seen with a single hypothesis. */
const BEAMS = ["lengthPenalty", "lengthRule", "earlyStopping"] as const satisfies readonly (keyof GenerationOptions)[];
const CALL = ["signal", "onProgress"] as const;
const IMAGE = ["applyExif", "alpha"] as const satisfies readonly (keyof ImageOptions)[];
const GENERATION = [
  "numBeams",
  "sample",
  ...SAMPLING,
  "repetitionPenalty",
  "minLength",
  "maxLength",
  ...BEAMS,
] as const satisfies readonly (keyof GenerationOptions)[];

/** The options that each task's request carries to the engine; those of pictures and calls are apart. */
const NAMES = {
  caption: ["prompt", "numCaptions", ...GENERATION, "matchScore"] satisfies readonly (keyof CaptionOptions)[],
  ask: [...GENERATION, "answers", "candidates", "convention", "frames"] satisfies readonly (keyof AskOptions)[],
  match: ["heads", "convention"] satisfies readonly (keyof MatchOptions)[],
  classify: ["templates", "head", "temperature", "convention"] satisfies readonly (keyof ClassifyOptions)[],
  embed: ["output", "convention"] satisfies readonly (keyof EmbedOptions)[],
  explain: ["layer", "convention"] satisfies readonly (keyof ExplainOptions)[],
  nlvr2: [] as readonly string[],
  dialogue: [] as readonly string[],
  encode: ["tasks"] as readonly string[],
  video: ["frames", "sampling", "tasks"] as readonly string[],
} as const;

/** Tasks as they are asked for; the others are none of the engine's requests. */
export type TaskName = Exclude<keyof typeof NAMES, "encode" | "video">;

/** What of a call's options goes to the engine. */
export interface CheckedOptions {
  /** Part of the task's request. */
  readonly request: Readonly<Record<string, unknown>>;
  /** How its pictures are read. */
  readonly image: Readonly<ImageOptions>;
}

/**
 * The part of `options` that the engine reads.
 *
 * @throws BlipError `bad-option` for an unknown name, a value that is not a string, boolean, finite number or
 * list of strings, and for an option that would do nothing beside the others.
 */
export function checkedOptions(task: keyof typeof NAMES, options: object): CheckedOptions {
  record(`the options of \`${task}\``, options);
  const known: readonly string[] = NAMES[task];
  const request: Record<string, unknown> = {};
  const image: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || isIn(CALL, name) || (name === "onToken" && isIn(GENERATION_TASKS, task))) continue;
    if (!known.includes(name) && !isIn(IMAGE, name)) {
      const names = [...known, ...IMAGE, ...CALL].join(", ");
      throw new BlipError("bad-option", `\`${task}\` has no option \`${name}\`; known are ${names}`);
    }
    if (!isPlain(value) && !(Array.isArray(value) && value.every((item) => typeof item === "string"))) {
      const expected = "a string, boolean, finite number or list of strings";
      throw new BlipError("bad-option", `option \`${name}\` is ${String(value)}, expected ${expected}`);
    }
    (isIn(IMAGE, name) ? image : request)[name] = value;
  }
  refuseIdle(task, request);
  return { request, image: image as ImageOptions };
}

const GENERATION_TASKS = ["caption", "ask"] as const;

/** Refuses what would be accepted and change nothing; that something is off is no such thing. */
function refuseIdle(task: keyof typeof NAMES, request: Readonly<Record<string, unknown>>): void {
  const refuse = (names: readonly string[], why: string): void => {
    const name = names.find((name) => (request[name] ?? false) !== false);
    if (name !== undefined) throw new BlipError("bad-option", `option \`${name}\` does nothing ${why}`);
  };
  const { sample, numBeams, convention, answers, head } = request;
  if (task === "classify" && head === "itm") refuse(["temperature"], "with `head: \"itm\"`, whose logits are not divided");
  if (!isIn(GENERATION_TASKS, task)) return;
  if (answers !== undefined) return refuse(GENERATION, "with `answers`, which are ranked and not written");
  refuse(["candidates"], "without `answers` to choose them from");
  if (sample !== true) refuse(SAMPLING, "without `sample: true`");
  // Answers are searched with several beams, as the original does, unless something else is said.
  const beams = numBeams ?? (task === "ask" && convention !== "hf" ? undefined : 1);
  if (sample === true || beams === 1) refuse(BEAMS, "without beams: it is of a search with `numBeams` above 1");
}

function isIn(names: readonly string[], name: string): boolean {
  return names.includes(name);
}

function isPlain(value: unknown): boolean {
  return typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);
}

/**
 * An object, which `null` is none of.
 *
 * @throws BlipError `bad-option` for anything else.
 */
export function record<T extends object>(name: string, value: T): T {
  if (typeof value === "object" && value !== null) return value;
  throw new BlipError("bad-option", `${name} are ${String(value)}, expected an object`);
}

/**
 * A list of texts, as JSON can carry it.
 *
 * @throws BlipError `bad-option` for anything else.
 */
export function texts(name: string, value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value as string[];
  throw new BlipError("bad-option", `\`${name}\` is ${String(value)}, expected a list of texts`);
}

/**
 * A text.
 *
 * @throws BlipError `bad-option` for anything else.
 */
export function text(name: string, value: unknown): string {
  if (typeof value === "string") return value;
  throw new BlipError("bad-option", `\`${name}\` is ${String(value)}, expected a text`);
}
