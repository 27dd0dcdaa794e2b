/** Models whose manifests are known: their files, poured in order into whatever takes them. */

import { abortable } from "./abort.js";
import { type Entry, alone, begin, commit } from "./cache.js";
import type { Chunks } from "./chunks.js";
import { type Patience, join } from "./download.js";
import type { ConversionModule } from "./hub.js";
import { type Manifest, type ModelFile, weightFiles } from "./manifest.js";
import { type ChunkedFile, type PourContext, type Push, heldBytes, pourFile } from "./pour.js";
import type { CacheMode, Dtype, Progress } from "./protocol.js";

/** A model whose weights can be read. */
export interface RemoteModel {
  readonly manifest: Manifest;
  /** The vocabulary as it came, verified. */
  readonly vocab: Uint8Array;
  /** Whether nothing but the manifest has to come from the network. */
  readonly fromCache: boolean;
  /**
   * Hands all files of weights to `push`, in order and verified; again on a second call, from the cache
   * then. What `push` throws ends it.
   */
  pourWeights(push: (piece: Uint8Array) => void): Promise<void>;
}

/** Something that a page may want to know and that stops nothing. */
export interface StoreEvent {
  /** `quota`: the model cannot be cached; `refetched`: a damaged piece of the cache was read again. */
  readonly type: "quota" | "refetched";
  readonly message: string;
}

/** How a model is opened. */
export interface StoreOptions {
  /** Where verified bytes are kept: `auto` is the Cache API where there is one, and memory elsewhere. */
  readonly cache: CacheMode;
  /** How a converted model stores its matrices; models with a manifest are what they are. */
  readonly dtype: Dtype;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
  readonly onEvent: (event: StoreEvent) => void;
  /** Only networks for these; the image encoder's file always comes. */
  readonly tasks?: readonly string[];
  /** Starts a module that converts files of repositories; called where one has to be converted, and not kept. */
  readonly conversion?: () => Promise<ConversionModule>;
  /** How patient downloads are. */
  readonly patience?: Patience;
}

/** A source that was looked up: what is known before its weights are asked for. */
export interface Prepared {
  /** Names it in the cache, and among tabs. */
  readonly key: string;
  /** Bytes that `onProgress` will count. */
  readonly total: number;
  /** How many of them are in the cache. */
  readonly held: number;
  /** Its manifest, where there is one before it is opened. */
  readonly manifest?: Manifest;
  open(): Promise<RemoteModel>;
}

/** A model whose manifest is known, and what its files are. */
export interface KnownModel {
  /** What is stored when all pieces are; its files are filled in here. */
  readonly entry: Entry;
  /** What is stored under its key already. */
  readonly stored: Entry | undefined;
  readonly manifest: Manifest;
  readonly file: (entry: ModelFile) => ChunkedFile;
  readonly options: StoreOptions;
  readonly chunks: Chunks;
}

/** A model with a manifest, ready to be opened. */
export function prepareFiles(model: KnownModel): Prepared {
  const { manifest, chunks } = model;
  const vocab = model.file(manifest.files.vocab);
  const weights = weightFiles(manifest).map(model.file);
  const files = [vocab, ...weights];
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const held = files.reduce((sum, file) => sum + heldBytes(file, chunks), 0);
  return { key: model.entry.key, total, held, manifest, open: () => openFiles(model, files, held === total, total) };
}

async function openFiles(
  { entry, stored, manifest, options, chunks }: KnownModel,
  [vocab, ...weights]: readonly ChunkedFile[],
  fromCache: boolean,
  total: number,
): Promise<RemoteModel> {
  if (vocab === undefined) throw new RangeError("a model has a vocabulary");
  const { signal } = options;
  const steps = new Steps(options.onProgress, total);
  const context = (before: number): PourContext => ({
    chunks,
    signal,
    report: (loaded, cached) => steps.report(before + loaded, cached),
    onRefetch: (message) => options.onEvent({ type: "refetched", message }),
  });
  const files = Object.fromEntries([vocab, ...weights].map(({ sha256, name, bytes, chunk }) => [sha256, { name, bytes, chunk }]));
  // Files of other tasks that came with the same manifest stay.
  const kept = stored?.manifest === entry.manifest ? stored.files : {};
  const whole: Entry = { ...entry, files: { ...kept, ...files } };
  let isStored = stored?.manifest === entry.manifest && Object.keys(files).every((digest) => kept[digest] !== undefined);
  if (!isStored && chunks.writable) await begin(chunks, whole);

  // The small file first: a broken deployment shows before the large download.
  const words: Uint8Array[] = [];
  steps.file = vocab.path;
  await pourFile(vocab, context(0), (piece) => void words.push(piece));

  const pour = async (push: Push): Promise<void> => {
    let before = vocab.bytes;
    for (const file of weights) {
      steps.file = file.path;
      await pourFile(file, context(before), push);
      before += file.bytes;
    }
    // From here on the model can be used without a network, if everything found its place.
    if (!isStored && chunks.writable) isStored = await commit(chunks, whole);
  };
  const pourAlone = async (push: Push): Promise<void> => {
    if (isStored || !chunks.writable) return pour(push);
    await alone(entry.key, signal, async () => {
      await chunks.refresh();
      await pour(push);
    });
  };
  let ahead: Ahead | undefined = new Ahead(pourAlone, signal);
  return {
    manifest,
    vocab: join(words, vocab.bytes),
    fromCache,
    pourWeights: async (push) => {
      const begun = ahead;
      ahead = undefined;
      await (begun === undefined ? pourAlone(push) : begun.into(push));
    },
  };
}

/** The beginning of the weights, read while the engine that takes them is still starting. */
class Ahead {
  readonly #done: Promise<void>;
  readonly #queue: Uint8Array[] = [];
  #bytes = 0;
  #push: Push | undefined;
  #begin: () => void = () => {};
  /** Rejects when the load is given up: whoever waits here may hold a lock that others need. */
  readonly #begun: Promise<void>;

  constructor(pour: (push: Push) => Promise<void>, signal: AbortSignal) {
    this.#begun = abortable(new Promise<void>((resolve) => (this.#begin = resolve)), signal);
    this.#begun.catch(() => {});
    this.#done = pour((piece) => this.#take(piece));
    // Whoever comes for the weights learns of it.
    this.#done.catch(() => {});
  }

  /** Hands over what is there, and from then on what comes. */
  async into(push: Push): Promise<void> {
    try {
      for (let piece = this.#queue.shift(); piece !== undefined; piece = this.#queue.shift()) await push(piece);
      this.#push = push;
    } catch (error) {
      this.#push = () => {
        throw error;
      };
    }
    this.#begin();
    await this.#done;
  }

  #take(piece: Uint8Array): void | Promise<void> {
    if (this.#push !== undefined) return this.#push(piece);
    this.#queue.push(piece);
    this.#bytes += piece.length;
    return this.#bytes < AHEAD ? undefined : this.#begun;
  }
}

/** Bytes that may wait for an engine. */
const AHEAD = 1 << 24;

/** Progress in steps that are worth a message. */
export class Steps {
  /** The file that is being read. */
  file = "";
  readonly #onProgress: (progress: Progress) => void;
  readonly #total: number;
  #shown = -1;

  constructor(onProgress: (progress: Progress) => void, total: number) {
    this.#onProgress = onProgress;
    this.#total = total;
  }

  report(loaded: number, fromCache: boolean): void {
    const step = Math.min(1 << 18, this.#total / 256);
    // Each end is shown, once: a second reading of the same bytes is nothing new.
    if (loaded <= this.#shown || (loaded < this.#shown + step && loaded < this.#total)) return;
    this.#shown = loaded;
    this.#onProgress({ phase: "download", file: this.file, loaded, total: this.#total, fromCache });
  }
}
