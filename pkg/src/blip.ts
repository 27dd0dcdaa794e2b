/** The class a page works with. */
/// <reference lib="esnext.disposable" preserve="true" />

import { baseAddress } from "./location.js";
import type { CachedModel } from "./cache.js";
import { type Call as TaskCall, encodeAll, type ImageInput, type Images, isList, runAll, runTexts } from "./calls.js";
import { inlineChannel, workerChannel } from "./channel.js";
import { Client } from "./client.js";
import type { EncodedImage } from "./encoded.js";
import { type BlipEventMap, Events } from "./events.js";
import type { Gallery, GalleryOptions } from "./gallery.js";
import type { BlipInfo, SelfTest } from "./info.js";
import {
  type AskOptions,
  type CaptionOptions,
  type CheckedOptions,
  checkedOptions,
  type ClassifyOptions,
  type DialogueOptions,
  type EmbedOptions,
  type EncodeOptions,
  type ExplainOptions,
  type KnownTask,
  type MatchOptions,
  type Nlvr2Options,
  record,
  type TaskName,
  text,
  texts,
} from "./options.js";
import { askToKeep } from "./persist.js";
import { BlipError, type CacheMode, type CreateMessage, type Dtype, type DtypeName, DTYPES, type Progress, type TaskAnswer } from "./protocol.js";
import type {
  AskResult,
  Availability,
  CaptionResult,
  DialogueAnswer,
  Each,
  Embedding,
  Explanation,
  Label,
  Match,
  MemoryUse,
  Nlvr2Result,
} from "./results.js";
import { type ModelName, type ModelsByTask, resolveModel, TASKS } from "./sources.js";
import { CaptionStream } from "./stream.js";
import type { VideoOptions, VideoSource } from "./video.js";

export type { ImageInput, Images } from "./calls.js";

/** Which model, and how to compute. */
export interface ModelOptions {
  /**
   * - `tiny` (default) or another directory of `modelBase`;
   * - a repository of Hugging Face: `owner/name` or `owner/name@revision`, whose file is converted while it
   *   is downloaded;
   * - the address of a `blip.json`, or of its directory with a final slash;
   * - any of these for each task: `{ caption, vqa, itm, itc, nlvr2 }`. Equal image encoders are shared.
   */
  model?: ModelName | ModelsByTask;
  /** Where model directories are; default: `models/` of the package. Addresses are relative to the page, or to a worker's script. */
  modelBase?: string | URL;
  /** Address of a `blip.json`, or of its directory with a final slash; used instead of `model`. */
  modelUrl?: string | URL;
  /** Where repositories are; default: https://huggingface.co. */
  endpoint?: string | URL;
  /** Only networks for these are loaded; one that no model has is `task-unsupported`. Default: all there are. */
  tasks?: readonly KnownTask[];
  /**
   * `webgpu` and `cpu` are followed or refused. `auto` (default) takes WebGPU where there is a real GPU that
   * passes the self-test, and the CPU otherwise; `info.fallbackReason` and the `device` step of `onProgress`
   * say why.
   */
  device?: "auto" | "webgpu" | "cpu";
  /**
   * How the matrices of a repository's model are stored: `q4`, `q8` (default), `f16` or `f32`; both sides alike, or
   * each by itself, of which one that is left out is `q8`.
   */
  dtype?: DtypeName | Partial<Dtype>;
  /**
   * Where weights are kept: `auto` (default) is the Cache API where there is one, else memory; `cache` the same, with
   * a `quota` event where there is none; `memory` for as long as the instance lives; `none` not at all.
   */
  cache?: CacheMode;
}

/** How to create an instance. */
export interface CreateOptions extends ModelOptions {
  /**
   * Run in a worker (default), so that the page stays responsive; `false` runs in the calling thread. A
   * function makes the worker, where a bundler or a policy needs its own way to `blip-web/worker`.
   */
  worker?: boolean | (() => Worker);
  /** The older name of a function as `worker`. */
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

/** What a dialogue is about. */
export interface Dialogue {
  /** A caption of the image. */
  readonly caption: string;
  /** What was asked and answered before. */
  readonly history?: readonly { readonly question: string; readonly answer: string }[];
  readonly question: string;
  /** The answers to choose from. */
  readonly candidates: readonly string[];
}

/** What to embed: images, texts, or each text as it looks at each image. */
export type EmbedInput =
  | { readonly image: Images; readonly text?: undefined }
  | { readonly image?: undefined; readonly text: string | readonly string[] }
  | { readonly image: Images; readonly text: string | readonly string[] };

/** One embedding, or a list for each list that was given: of images, then of texts. */
export type Embedded<Input> = Input extends { readonly image: infer I }
  ? Each<I, Input extends { readonly text: infer T } ? (T extends undefined ? Embedding : Each<T, Embedding>) : Embedding>
  : Input extends { readonly text: infer T }
    ? Each<T, Embedding>
    : never;

/**
 * Models on a device. Calls may overlap: they take turns, an image at a time.
 *
 * ```js
 * const blip = await Blip.create();
 * const { text } = await blip.caption(file);
 * await blip.dispose();
 * ```
 *
 * Wherever a call takes an image it takes a list of them as well, and resolves to a list: several images
 * are encoded together. Every call rejects with a `BlipError` with a stable `code`, or with the reason of its
 * `signal` when that is aborted.
 */
export class Blip {
  readonly #client: Client;
  readonly #events: Events;
  #info: BlipInfo;

  private constructor(client: Client, events: Events, info: BlipInfo) {
    this.#client = client;
    this.#events = events;
    this.#info = info;
    events.open((changed) => (this.#info = changed));
  }

  /**
   * Opens a device, downloads and verifies models, tests the device, and compiles its pipelines.
   *
   * @throws BlipError with a stable `code`; the reason of `signal` when it is aborted.
   */
  static async create(options: CreateOptions = {}): Promise<Blip> {
    const { signal, onProgress = () => {}, worker = true, createWorker } = record("the options of `create`", options);
    const message = createMessage(options);
    signal?.throwIfAborted();
    const events = new Events();
    const channel = worker === false ? inlineChannel() : workerChannel(typeof worker === "function" ? worker : createWorker);
    const client = new Client(channel, (event) => events.take(event));
    const ended = begin(JSON.stringify(message.plan));
    let downloaded = false;
    const report = (progress: Progress): void => {
      downloaded ||= progress.phase === "download" && progress.fromCache !== true;
      onProgress(progress);
    };
    try {
      const info = await client.create(message, report, signal);
      if (downloaded && (message.cache === "auto" || message.cache === "cache")) askToKeep();
      return new Blip(client, events, info);
    } catch (error) {
      void client.close();
      throw error;
    } finally {
      ended();
    }
  }

  /**
   * What `create` would need: asks for an adapter and fetches small files, and changes nothing.
   *
   * @throws BlipError `bad-option`; everything else is an answer.
   */
  static async availability(options: ModelOptions & { signal?: AbortSignal } = {}): Promise<Availability> {
    const message = createMessage(record("the options of `availability`", options));
    const { availability } = await import("./availability.js");
    return availability(message, creating.has(JSON.stringify(message.plan)), options.signal);
  }

  /** The models in the cache of this origin. */
  static readonly cache = {
    /** What is in it. */
    list: async (): Promise<CachedModel[]> => (await import("./cache.js")).modelCache.list(),
    /** Deletes the models of this id or key, or all. */
    delete: async (id?: string): Promise<void> => (await import("./cache.js")).modelCache.delete(id),
    /** Its bytes. */
    size: async (): Promise<number> => (await import("./cache.js")).modelCache.size(),
  };

  /** The galleries of this origin. */
  static readonly galleries = {
    /** Their names. */
    list: async (): Promise<string[]> => (await import("./gallery-store.js")).listGalleries(),
    /** Deletes one with everything in it; where it is open, it is empty from then on. */
    delete: async (name: string): Promise<void> => (await import("./gallery-store.js")).deleteGallery(name),
  };

  /** Device, adapter, models and what they know. It changes when a lost device is replaced. */
  get info(): BlipInfo {
    return this.#info;
  }

  /** Captions images. */
  async caption<I extends Images>(images: I, options: CaptionOptions = {}): Promise<Each<I, CaptionResult>> {
    const checked = checkedOptions("caption", options);
    return this.#each<I, CaptionResult>(images, "caption", {}, checked, options);
  }

  /** Captions an image token by token; leaving the loop cancels the rest. */
  captionStream(image: ImageInput, options: CaptionOptions = {}): CaptionStream {
    const start = async (onToken: (text: string, index: number) => void, signal: AbortSignal): Promise<CaptionResult> => {
      record("the options of `captionStream`", options);
      const both = (text: string, index: number): void => {
        onToken(text, index);
        options.onToken?.(text, index, 0);
      };
      return this.caption(image, { ...options, onToken: both, signal });
    };
    return new CaptionStream(start, (options as CaptionOptions | null)?.signal);
  }

  /** Answers a question about images, in words or by ranking `options.answers`. Needs a network for `vqa`. */
  async ask<I extends Images>(images: I, question: string, options: AskOptions = {}): Promise<Each<I, AskResult>> {
    const checked = checkedOptions("ask", options);
    return this.#each<I, AskResult>(images, "ask", { question: text("question", question) }, checked, options);
  }

  /** How well texts and images belong together. Needs a network for `itm` or `itc`. */
  async match<I extends Images, T extends string | readonly string[]>(
    images: I,
    what: T,
    options: MatchOptions = {},
  ): Promise<Each<I, Each<T, Match>>> {
    const checked = checkedOptions("match", options);
    const list = isList<string>(what) ? texts("texts", what) : [text("text", what)];
    const one = (matches: Match[]): Match[] | Match | undefined => (isList<string>(what) ? matches : matches[0]);
    const { results } = await this.#run(images, "match", { texts: list }, checked, options);
    return listed(images, (results as Match[][]).map(one)) as Each<I, Each<T, Match>>;
  }

  /** Which of `labels` fit images best, without training for them; best first. Needs a network for `options.head`. */
  async classify<I extends Images>(images: I, labels: readonly string[], options: ClassifyOptions = {}): Promise<Each<I, Label[]>> {
    const checked = checkedOptions("classify", options);
    return this.#each<I, Label[]>(images, "classify", { labels: texts("labels", labels) }, checked, options);
  }

  /** Features of images, texts, or both together. */
  async embed<Input extends EmbedInput>(input: Input, options: EmbedOptions = {}): Promise<Embedded<Input>> {
    const checked = checkedOptions("embed", options);
    const { image, text: what } = record("the inputs of `embed`", input) as { image?: Images; text?: string | readonly string[] };
    const list = what === undefined || isList<string>(what) ? texts("text", what ?? []) : [text("text", what)];
    const perText = (embeddings: unknown[]): unknown => (Array.isArray(what) ? embeddings : embeddings[0]);
    if (image === undefined) {
      if (what === undefined) throw new BlipError("bad-option", "there is neither an image nor a text to embed");
      const request = { task: "embed", kind: "text", ...checked.request } as const;
      this.#client.assertOpen();
      return perText(embeddings(await runTexts(this.#client, list, request, options))) as Embedded<Input>;
    }
    if (what === undefined && options.convention !== undefined) {
      throw new BlipError("bad-option", "option `convention` does nothing without a text");
    }
    const kind = what === undefined ? "image" : "multimodal";
    const rows = embeddings(await this.#run(image, "embed", { kind, ...(what === undefined ? {} : { texts: list }) }, checked, options));
    if (what === undefined) return listed(image, rows) as Embedded<Input>;
    const each = Math.max(list.length, 1);
    const pairs = Array.from({ length: rows.length / each }, (_, index) => rows.slice(index * each, (index + 1) * each));
    return listed(image, pairs.map(perText)) as Embedded<Input>;
  }

  /** Where in images the words of a text are: Grad-CAM on cross-attention. Needs a network for `itm`. */
  async explain<I extends Images>(images: I, what: string, options: ExplainOptions = {}): Promise<Each<I, Explanation>> {
    const checked = checkedOptions("explain", options);
    const answer = await this.#run(images, "explain", { text: text("text", what) }, checked, options);
    const { explanations } = await import("./explanation.js");
    return listed(images, explanations(answer)) as Each<I, Explanation>;
  }

  /** Whether a statement about two images is true. Needs a network for `nlvr2`. */
  async nlvr2(images: readonly [ImageInput, ImageInput], statement: string, options: Nlvr2Options = {}): Promise<Nlvr2Result> {
    const checked = checkedOptions("nlvr2", options);
    if (!isList<ImageInput>(images) || images.length !== 2) throw new BlipError("bad-option", "nlvr2 is about two images");
    const { results } = await this.#run(images, "nlvr2", { statement: text("statement", statement) }, checked, options);
    return results[0] as Nlvr2Result;
  }

  /** Which of the candidates answers the last question of a dialogue about images; best first. Needs a network for `itm`. */
  async dialogue<I extends Images>(images: I, dialogue: Dialogue, options: DialogueOptions = {}): Promise<Each<I, DialogueAnswer[]>> {
    const checked = checkedOptions("dialogue", options);
    const { caption, history = [], question, candidates } = record("the parts of a dialogue", dialogue);
    if (!Array.isArray(history)) throw new BlipError("bad-option", `\`history\` is ${String(history)}, expected a list of questions and answers`);
    const turns = (history as NonNullable<Dialogue["history"]>).map((turn) => record("the parts of a turn of `history`", turn));
    const request = {
      caption: text("caption", caption),
      history: turns.map(({ question, answer }) => ({ question: text("question", question), answer: text("answer", answer) })),
      question: text("question", question),
      candidates: texts("candidates", candidates),
    };
    return this.#each<I, DialogueAnswer[]>(images, "dialogue", request, checked, options);
  }

  /** Encodes images once, to be asked about more than once. Dispose of them when they are not needed any more. */
  async encode<I extends Images>(images: I, options: EncodeOptions = {}): Promise<Each<I, EncodedImage>> {
    const checked = checkedOptions("encode", options);
    this.#client.assertOpen();
    options.signal?.throwIfAborted();
    return listed(images, await encodeAll(this.#client, images, checked, options)) as Each<I, EncodedImage>;
  }

  /** Encodes frames of a clip together; every task but `nlvr2` takes them as one image. */
  async encodeVideo(source: VideoSource, options: VideoOptions = {}): Promise<EncodedImage> {
    const checked = checkedOptions("video", options);
    this.#client.assertOpen();
    options.signal?.throwIfAborted();
    const { encodeVideo } = await import("./video.js");
    return encodeVideo(this.#client, source, checked, options);
  }

  /** Opens a gallery: images that stay in this browser, found by words or by another image. */
  async gallery(name: string, options: GalleryOptions = {}): Promise<Gallery> {
    this.#client.assertOpen();
    const { openGallery } = await import("./gallery.js");
    return openGallery(this, this.#client, name, options);
  }

  /**
   * Computes a small problem with every kernel that the model uses and compares with plain arithmetic;
   * on WebGPU, `create` has done so already. A mismatch is a result, not an error.
   *
   * @throws BlipError `gpu-error` when the device refuses to compute.
   */
  async selfTest(options: { signal?: AbortSignal } = {}): Promise<SelfTest> {
    return this.#client.selfTest(record("the options of `selfTest`", options).signal);
  }

  /** What the engine holds now. */
  async memory(): Promise<MemoryUse> {
    return this.#client.memory();
  }

  /**
   * Listens to what happens outside of calls. Events of the creation are delivered in the next turn of the
   * event loop, to listeners that were added right after `create`.
   */
  addEventListener<Type extends keyof BlipEventMap>(
    type: Type,
    listener: (event: BlipEventMap[Type]) => void,
    options?: AddEventListenerOptions,
  ): void {
    this.#events.target.addEventListener(type, listener as (event: Event) => void, options);
  }

  /** Ends what `addEventListener` began. */
  removeEventListener<Type extends keyof BlipEventMap>(type: Type, listener: (event: BlipEventMap[Type]) => void): void {
    this.#events.target.removeEventListener(type, listener as (event: Event) => void);
  }

  /** Stops what is running and frees memory and GPU; pending calls reject with `disposed`. Safe to repeat. */
  async dispose(): Promise<void> {
    await this.#client.close();
  }

  /** For `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #each<I extends Images, Answer>(
    images: I,
    task: TaskName,
    request: Readonly<Record<string, unknown>>,
    checked: CheckedOptions,
    call: TaskCall,
  ): Promise<Each<I, Answer>> {
    return listed(images, (await this.#run(images, task, request, checked, call)).results) as Each<I, Answer>;
  }

  async #run(
    images: Images,
    task: TaskName,
    request: Readonly<Record<string, unknown>>,
    checked: CheckedOptions,
    call: TaskCall,
  ): Promise<TaskAnswer> {
    this.#client.assertOpen();
    call.signal?.throwIfAborted();
    return runAll(this.#client, images, { task, ...checked.request, ...request }, checked.image, call);
  }
}

/** Plans of instances that are being created. */
const creating = new Map<string, number>();

/** Notes that an instance is being created; returns how to note the end. */
function begin(plan: string): () => void {
  creating.set(plan, (creating.get(plan) ?? 0) + 1);
  return () => {
    const left = (creating.get(plan) ?? 1) - 1;
    if (left > 0) creating.set(plan, left);
    else creating.delete(plan);
  };
}

/** A list for a list, the only one for a single image. */
function listed<Answer>(images: Images, answers: readonly Answer[]): readonly Answer[] | Answer | undefined {
  return isList(images) ? answers : answers[0];
}

function embeddings({ results, floats }: TaskAnswer): Embedding[] {
  return (results as { shape: number[] }[]).map(({ shape }, index) => ({ shape, data: floats[index] ?? new Float32Array() }));
}

function createMessage(options: CreateOptions): CreateMessage {
  const { device = "auto", model = "tiny", cache = "auto", dtype, tasks, wasmUrl, baselineWasmUrl } = options;
  oneOf("device", device, ["auto", "webgpu", "cpu"]);
  oneOf("cache", cache, ["auto", "cache", "memory", "none"]);
  for (const task of tasks ?? []) oneOf("tasks", task, TASKS);
  const sides: Dtype = typeof dtype === "string" ? { vision: dtype, text: dtype } : { vision: "q8", text: "q8", ...dtype };
  for (const side of [sides.vision, sides.text]) oneOf("dtype", side, DTYPES);
  // Of the calling thread, not of the worker that will fetch them.
  const base = baseAddress();
  const address = (name: string, url: string | URL): string => {
    try {
      return new URL(url, base).href;
    } catch (error) {
      throw new BlipError("bad-option", `${name} is not an address: ${String(url)}`, { cause: error });
    }
  };
  return {
    device,
    plan: resolveModel(model, options, base),
    dtype: sides,
    cache,
    ...(tasks === undefined ? {} : { tasks }),
    ...(wasmUrl === undefined ? {} : { wasmUrl: address("wasmUrl", wasmUrl) }),
    ...(baselineWasmUrl === undefined ? {} : { baselineWasmUrl: address("baselineWasmUrl", baselineWasmUrl) }),
  };
}

function oneOf(name: string, value: unknown, known: readonly string[]): void {
  if (known.includes(value as string)) return;
  throw new BlipError("bad-option", `${name} is ${String(value)}, expected one of ${known.join(", ")}`);
}
