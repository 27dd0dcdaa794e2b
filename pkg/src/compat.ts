/**
 * The calls of transformers.js: `blip-web/compat`.
 *
 * ```js
 * import { pipeline } from "blip-web/compat";
 *
 * const captioner = await pipeline("image-to-text", "Salesforce/blip-image-captioning-base");
 * const [{ generated_text }] = await captioner(url);
 * ```
 *
 * Three tasks have the names, arguments and results that they have there. What is not understood is an error.
 * As there, options of sampling count only with `do_sample: true`, and `length_penalty` only with beams.
 *
 * @module
 */

import { Blip, type CreateOptions } from "./blip.js";
import type { ImageInput } from "./calls.js";
import { type AskOptions, type GenerationOptions, record } from "./options.js";
import { BlipError, type DtypeName, type Progress } from "./protocol.js";

/** A task that {@link pipeline} knows. */
export type PipelineTask = "image-to-text" | "visual-question-answering" | "zero-shot-image-classification";

/** What `progress_callback` is told. */
export interface PipelineProgress {
  /** `progress` counts bytes; `ready` is the last one. */
  readonly status: "initiate" | "download" | "progress" | "done" | "ready";
  /** The model. */
  readonly name: string;
  /** The file that is being read; all but `ready` have one. */
  readonly file?: string;
  /** Bytes so far and in all, over every file of the model, and their ratio in percent. */
  readonly loaded?: number;
  readonly total?: number;
  readonly progress?: number;
  /** The task, once it is `ready`. */
  readonly task?: PipelineTask;
}

/** How matrices are stored, in the words of transformers.js or in ours. */
export type PipelineDtype = "fp32" | "fp16" | "q8" | "int8" | "uint8" | "q4" | "bnb4" | "q4f16" | "f32" | "f16";

/** How to make a pipeline: the names of transformers.js, and every option of `Blip.create`. */
export interface PipelineOptions extends Omit<CreateOptions, "model" | "tasks" | "device" | "dtype"> {
  /** `wasm` and `cpu` are the same; `gpu` is `webgpu`. Default `auto`. */
  device?: "auto" | "webgpu" | "gpu" | "wasm" | "cpu" | null;
  /** How the matrices of a repository's model are stored. */
  dtype?: PipelineDtype | { vision?: PipelineDtype; text?: PipelineDtype } | null;
  /** A branch, tag or commit of the repository. */
  revision?: string;
  /** Told of the creation; `onProgress` is told the same in our words. */
  progress_callback?: ((progress: PipelineProgress) => void) | null;
}

/** How to generate; unknown names are refused. */
export interface GenerateKwargs {
  /** The most tokens of the answer, its end included; not together with `max_length` or a `prompt`. */
  max_new_tokens?: number;
  max_length?: number;
  min_length?: number;
  num_beams?: number;
  num_return_sequences?: number;
  /** Without it `top_k`, `top_p` and `temperature` are left aside. */
  do_sample?: boolean;
  top_k?: number;
  top_p?: number;
  temperature?: number;
  repetition_penalty?: number;
  /** Left aside without beams. */
  length_penalty?: number;
  /** Not in transformers.js: words that the caption continues. */
  prompt?: string;
  /** Not in transformers.js: of sampling. */
  seed?: number;
  /** Not in transformers.js: cancels the call. */
  signal?: AbortSignal;
}

/** One caption. */
export interface ImageToTextOutput {
  generated_text: string;
}

/** One answer; `score` is its probability: among the candidates if there were any, else that of its tokens. */
export interface VisualQuestionAnsweringOutput {
  answer: string;
  score: number;
}

/** One label and its probability among all of them. */
export interface ZeroShotImageClassificationOutput {
  label: string;
  score: number;
}

/** What every pipeline has beside its call. */
export interface LoadedPipeline {
  /** The instance behind the pipeline, for all that this module has no name for. */
  readonly blip: Blip;
  /** Frees the model. */
  dispose(): Promise<void>;
  /** For `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Captions of an image, or of each of several. */
export interface ImageToTextPipeline extends LoadedPipeline {
  readonly task: "image-to-text";
  (images: ImageInput, options?: GenerateKwargs): Promise<ImageToTextOutput[]>;
  (images: ImageInput[], options?: GenerateKwargs): Promise<ImageToTextOutput[][]>;
}

/** How to answer; names of {@link GenerateKwargs} that mean nothing here are refused. */
export interface VisualQuestionAnsweringKwargs extends Omit<GenerateKwargs, "prompt" | "num_return_sequences" | "top_k"> {
  /** How many of the candidates to return, best first, as in Python's pipeline. Default 1. */
  top_k?: number;
  /** Not in transformers.js: ranks these answers instead of writing one. */
  candidate_answers?: readonly string[];
}

/** Answers to a question about an image, or about each of several. */
export interface VisualQuestionAnsweringPipeline extends LoadedPipeline {
  readonly task: "visual-question-answering";
  (images: ImageInput, question: string, options?: VisualQuestionAnsweringKwargs): Promise<VisualQuestionAnsweringOutput[]>;
  (images: ImageInput[], question: string, options?: VisualQuestionAnsweringKwargs): Promise<VisualQuestionAnsweringOutput[][]>;
}

/** How to classify. */
export interface ZeroShotImageClassificationKwargs {
  /** Where `{}` stands for the label. Default `This is a photo of {}`. */
  hypothesis_template?: string;
  /** Not in transformers.js: cancels the call. */
  signal?: AbortSignal;
}

/** Labels of an image, or of each of several, the most probable first. */
export interface ZeroShotImageClassificationPipeline extends LoadedPipeline {
  readonly task: "zero-shot-image-classification";
  (images: ImageInput, labels: readonly string[], options?: ZeroShotImageClassificationKwargs): Promise<ZeroShotImageClassificationOutput[]>;
  (images: ImageInput[], labels: readonly string[], options?: ZeroShotImageClassificationKwargs): Promise<ZeroShotImageClassificationOutput[][]>;
}

/** The pipeline of a task. */
export interface Pipelines {
  "image-to-text": ImageToTextPipeline;
  "visual-question-answering": VisualQuestionAnsweringPipeline;
  "zero-shot-image-classification": ZeroShotImageClassificationPipeline;
}

/** The model and the BLIP task of each pipeline. */
const TASKS = {
  "image-to-text": { model: "Salesforce/blip-image-captioning-base", task: "caption" },
  "visual-question-answering": { model: "Salesforce/blip-vqa-base", task: "vqa" },
  "zero-shot-image-classification": { model: "Salesforce/blip-itm-base-coco", task: "itc" },
} as const;

/** Both, as ours. */
const DTYPES: Readonly<Record<PipelineDtype, DtypeName>> = {
  fp32: "f32",
  fp16: "f16",
  q8: "q8",
  int8: "q8",
  uint8: "q8",
  q4: "q4",
  bnb4: "q4",
  q4f16: "q4",
  f32: "f32",
  f16: "f16",
};

const DEVICES = { auto: "auto", webgpu: "webgpu", gpu: "webgpu", wasm: "cpu", cpu: "cpu" } as const;

/** The options of `Blip.create` that a pipeline passes on as they are. */
const CREATE = [
  "modelBase",
  "modelUrl",
  "endpoint",
  "cache",
  "worker",
  "createWorker",
  "wasmUrl",
  "baselineWasmUrl",
  "signal",
  "onProgress",
] as const satisfies readonly (keyof CreateOptions)[];

/** Options of a generating call that have another name with us. */
const GENERATION = {
  max_length: "maxLength",
  min_length: "minLength",
  num_beams: "numBeams",
  num_return_sequences: "numCaptions",
  do_sample: "sample",
  top_k: "topK",
  top_p: "topP",
  temperature: "temperature",
  repetition_penalty: "repetitionPenalty",
  length_penalty: "lengthPenalty",
  prompt: "prompt",
  seed: "seed",
} as const satisfies Record<string, keyof GenerationOptions>;

/** What generation configurations name all the same, and transformers.js uses for sampling only. */
const SAMPLING: readonly string[] = ["top_k", "top_p", "temperature"];

/**
 * Loads a model for a task.
 *
 * @param model a repository of the hub, a name below `modelBase` or an address; by default the base model
 *   that was published for the task.
 * @throws BlipError `task-unsupported` for a task that BLIP has not, `bad-option` for an option that is not
 *   understood, and whatever `Blip.create` throws.
 */
export async function pipeline<T extends PipelineTask>(task: T, model?: string | null, options: PipelineOptions = {}): Promise<Pipelines[T]> {
  const known = Object.hasOwn(TASKS, task) ? TASKS[task] : undefined;
  if (known === undefined) {
    throw new BlipError("task-unsupported", `the task ${JSON.stringify(task)} is not one of BLIP's; there are ${Object.keys(TASKS).join(", ")}`);
  }
  const name = model ?? known.model;
  const { create, progress_callback } = createOptions(record("the options of `pipeline`", options));
  const blip = await Blip.create({
    ...create,
    model: options.revision === undefined ? name : `${name}@${options.revision}`,
    tasks: [known.task],
    ...(progress_callback === undefined ? {} : { onProgress: translated(name, task, progress_callback, options.onProgress) }),
  });
  const dispose = (): Promise<void> => blip.dispose();
  const call = CALLS[task](blip);
  return Object.assign(call, { task, blip, dispose, [Symbol.asyncDispose]: dispose }) as unknown as Pipelines[T];
}

type Call = (blip: Blip) => (images: ImageInput | ImageInput[], ...rest: never[]) => Promise<unknown>;

const CALLS: Record<PipelineTask, Call> = {
  "image-to-text": (blip) => async (images, kwargs: GenerateKwargs | null = {}) =>
    each(await blip.caption(list(images), generation(kwargs ?? {}, 1)), images, ({ captions }) =>
      captions.map(({ text }): ImageToTextOutput => ({ generated_text: text })),
    ),

  "visual-question-answering": (blip) => async (images, question: string, kwargs: VisualQuestionAnsweringKwargs | null = {}) => {
    const { top_k = 1, candidate_answers, ...rest } = kwargs ?? {};
    const generate = generation(rest, 3, ["prompt", "num_return_sequences", "top_k"]);
    if (candidate_answers === undefined && top_k !== 1) {
      throw new BlipError("bad-option", "top_k ranks candidate_answers; without them there is one answer");
    }
    if (!Number.isInteger(top_k) || top_k < 1) throw new BlipError("bad-option", `top_k is ${String(top_k)}, expected a whole number from 1`);
    const ask: AskOptions = candidate_answers === undefined ? generate : { ...generate, answers: candidate_answers };
    return each(await blip.ask(list(images), question, ask), images, ({ answers }) =>
      answers.slice(0, top_k).map(({ text, logProb, probability }): VisualQuestionAnsweringOutput => ({ answer: text, score: probability ?? Math.exp(logProb) })),
    );
  },

  "zero-shot-image-classification": (blip) => async (images, labels: readonly string[], kwargs: ZeroShotImageClassificationKwargs | null = {}) => {
    const { hypothesis_template = "This is a photo of {}", signal, ...unknown } = kwargs ?? {};
    refuse(unknown, ["hypothesis_template", "signal"]);
    const options = { templates: [hypothesis_template], ...(signal === undefined ? {} : { signal }) };
    return each(await blip.classify(list(images), labels, options), images, (found) =>
      found.map(({ label, probability }): ZeroShotImageClassificationOutput => ({ label, score: probability })),
    );
  },
};

const list = (images: ImageInput | ImageInput[]): ImageInput[] => (Array.isArray(images) ? images : [images]);

/** A result for each image, or the one result of a single image. */
function each<T, U>(results: T[], images: unknown, map: (result: T) => U): U | U[] | undefined {
  const mapped = results.map(map);
  return Array.isArray(images) ? mapped : mapped[0];
}

/** The options of `Blip.create` among those of a pipeline. */
function createOptions(options: PipelineOptions): { create: CreateOptions; progress_callback?: (progress: PipelineProgress) => void } {
  const { device, dtype, progress_callback, revision: _revision, ...create } = options;
  refuse(create, CREATE, "device", "dtype", "revision", "progress_callback");
  return {
    create: { ...create, device: named("device", device ?? "auto", DEVICES), ...stored(dtype) },
    ...(typeof progress_callback === "function" ? { progress_callback } : {}),
  };
}

function stored(dtype: PipelineOptions["dtype"]): Pick<CreateOptions, "dtype"> {
  if (dtype === undefined || dtype === null) return {};
  if (typeof dtype === "string") return { dtype: named("dtype", dtype, DTYPES) };
  const { vision, text, ...unknown } = dtype;
  refuse(unknown, ["vision", "text"]);
  return {
    dtype: {
      ...(vision === undefined ? {} : { vision: named("dtype.vision", vision, DTYPES) }),
      ...(text === undefined ? {} : { text: named("dtype.text", text, DTYPES) }),
    },
  };
}

/** What a name of transformers.js is called here. */
function named<K extends string, V>(option: string, name: string, names: Readonly<Record<K, V>>): V {
  if (Object.hasOwn(names, name)) return names[name as K];
  throw new BlipError("bad-option", `${option} is ${JSON.stringify(name)}, expected one of ${Object.keys(names).join(", ")}`);
}

/**
 * Our names for the options of a generating call, which searches with `beams` unless it says otherwise; those of
 * `unused` mean nothing to the task.
 */
function generation(kwargs: GenerateKwargs, beams: number, unused: readonly string[] = []): GenerationOptions & { signal?: AbortSignal } {
  const { max_new_tokens, signal, ...rest } = kwargs;
  refuse(rest, Object.keys(GENERATION).filter((name) => !unused.includes(name)), "max_new_tokens", "signal");
  if (max_new_tokens !== undefined && (rest.max_length !== undefined || rest.prompt !== undefined)) {
    throw new BlipError("bad-option", "max_new_tokens cannot be combined with max_length or prompt; max_length counts all tokens");
  }
  const options: Record<string, unknown> = {};
  const samples = rest.do_sample === true;
  const idle = [...(samples ? [] : SAMPLING), ...(samples || (rest.num_beams ?? beams) === 1 ? ["length_penalty"] : [])];
  for (const [name, value] of Object.entries(rest)) {
    if (value !== undefined && !idle.includes(name)) options[GENERATION[name as keyof typeof GENERATION]] = value;
  }
  // The first token of a sequence is not a new one.
  if (max_new_tokens !== undefined) options["maxLength"] = max_new_tokens + 1;
  return signal === undefined ? options : { ...options, signal };
}

/** Refuses names that would otherwise be lost without a word. */
function refuse(options: object, known: readonly string[], ...more: string[]): void {
  const all = [...known, ...more];
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && !all.includes(name)) {
      throw new BlipError("bad-option", `unknown option \`${name}\`; known are ${all.join(", ")}`);
    }
  }
}

/** Tells `callback` of our progress in the words of transformers.js. */
function translated(
  name: string,
  task: PipelineTask,
  callback: (progress: PipelineProgress) => void,
  also: ((progress: Progress) => void) | undefined,
): (progress: Progress) => void {
  let file: string | undefined;
  const finish = (): void => {
    if (file !== undefined) callback({ status: "done", name, file });
    file = undefined;
  };
  return (progress) => {
    also?.(progress);
    if (progress.phase === "download") {
      const { loaded, total } = progress;
      if (progress.file !== file) {
        finish();
        file = progress.file;
        callback({ status: "initiate", name, file });
        callback({ status: "download", name, file });
      }
      callback({ status: "progress", name, file, loaded, total, progress: total === 0 ? 100 : (100 * loaded) / total });
    } else if (progress.phase === "ready") {
      finish();
      callback({ status: "ready", name, task });
    }
  };
}
