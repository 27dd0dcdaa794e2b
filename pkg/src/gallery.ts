/** Galleries: pictures that are kept in the browser, and found by words or by a picture. */

import { abortable } from "./abort.js";
import { baseAddress } from "./location.js";
import type { Blip } from "./blip.js";
import type { ImageInput } from "./calls.js";
import type { Client } from "./client.js";
import { sha256 } from "./digest.js";
import type { EmbeddedPicture, GalleryHit, GalleryOperations } from "./gallery-engine.js";
import { type ImageSource, readImage } from "./images.js";
import { groups } from "./iterate.js";
import { record } from "./options.js";
import { BlipError, type BlipErrorCode, type ImagePayload, toBlipError } from "./protocol.js";

/** What a gallery asks of its instance. */
export interface GalleryHost {
  /**
   * ITC's embeddings of images, encoded together.
   *
   * @throws BlipError with `image`, the place of the one that cannot be read.
   */
  embedImages(images: readonly ImageInput[], signal?: AbortSignal): Promise<Float32Array[]>;
  /** ITC's embedding of a text. */
  embedText(text: string, signal?: AbortSignal): Promise<Float32Array>;
  /** What the ITM head says of an image and a text. */
  matchScores(image: ImageSource, text: string, signal?: AbortSignal): Promise<{ readonly logit: number; readonly probability: number }>;
  /** An operation of `GalleryEngine`, with the gallery's name first in `args`. */
  index(op: string, args: readonly unknown[], signal?: AbortSignal): Promise<unknown>;
}

/** How to keep a gallery. */
export interface GalleryOptions {
  /**
   * Keep the files as well as their vectors (default): results can be shown, and looked at again. Otherwise
   * the gallery knows keys only.
   */
  keepImages?: boolean;
  /** Ends the opening, which reads every vector; it is not the signal of later calls. */
  signal?: AbortSignal;
}

/** An image to be added; the key, which results have too, is a file's path or name, or an address. */
export type GalleryItem = ImageSource | { readonly key: string; readonly image: ImageSource };

/** How far an `add` is. */
export interface AddProgress {
  /** Images that were dealt with. */
  readonly done: number;
  /** Images in all, where that is known before the end. */
  readonly total?: number;
  readonly added: number;
  readonly skipped: number;
  readonly failed: number;
}

/** How to add images. */
export interface AddOptions {
  /** Stops after what is being stored; what is stored stays, and the next `add` skips it. */
  signal?: AbortSignal;
  /** Called whenever images were dealt with. */
  onProgress?: (progress: AddProgress) => void;
  /** Images that are encoded and stored together, 1 to 8 (default 8). */
  batch?: number;
}

/** An image that was not added. */
export interface FailedImage {
  readonly key: string;
  readonly code: BlipErrorCode;
  readonly message: string;
}

/** What became of the images of an `add`. */
export interface AddResult {
  readonly added: number;
  /** Images whose content was there. */
  readonly skipped: number;
  /** Images that could not be read. */
  readonly failed: readonly FailedImage[];
}

/** How to search. */
export interface SearchOptions {
  /** How many images to find (default 12). */
  topK?: number;
  /**
   * Looks at so many of the best again, with the ITM head (default 0): those come first, by logit plus
   * cosine. For texts only.
   */
  rerank?: number;
  /** The image of a key, for `rerank` in a gallery that does not keep images. */
  resolve?: (key: string) => ImageSource | undefined | Promise<ImageSource | undefined>;
  signal?: AbortSignal;
}

/** An image that was found. */
export interface GalleryResult {
  readonly key: string;
  /** SHA-256 of its content, in hexadecimal. */
  readonly hash: string;
  /** What results are ordered by: the cosine, or the ITM logit plus the cosine. */
  readonly score: number;
  /** Of the query's embedding and the image's, within the rounding of eight bits. */
  readonly cosine: number;
  /** Of an image that was looked at again. */
  readonly itm?: { readonly probability: number; readonly logit: number };
  /** The image's file, where the gallery keeps images. */
  blob(): Promise<Blob | undefined>;
}

const LARGEST_BATCH = 8;

/** An image that was read: what it is, and how to embed it. */
interface ReadItem {
  readonly hash: string;
  readonly key: string;
  readonly source: ImageSource;
  readonly blob?: Blob;
}

/**
 * Pictures that are kept in this browser, in IndexedDB, by what is on them. Made by `Blip.gallery`.
 *
 * ```js
 * const gallery = await blip.gallery("holiday");
 * await gallery.add(files);
 * for (const { key, blob } of await gallery.search("a dog in the snow")) console.log(key);
 * ```
 *
 * An image is known by its content: a second copy is skipped before it is encoded, so that an `add` that
 * was interrupted goes on where it was. Vectors are those of one model; a gallery of another one is refused.
 */
export class Gallery {
  readonly name: string;
  readonly #host: GalleryHost;
  readonly #keepImages: boolean;
  #size: number;
  #isClosed = false;

  private constructor(host: GalleryHost, name: string, keepImages: boolean, size: number) {
    this.#host = host;
    this.name = name;
    this.#keepImages = keepImages;
    this.#size = size;
  }

  /**
   * Opens a gallery, or makes it.
   *
   * @internal `Blip.gallery` is the way to it.
   * @throws BlipError `bad-option` for a gallery of another model, `task-unsupported` without a network for
   * ITC, `feature-missing` without IndexedDB.
   */
  static async open(host: GalleryHost, name: string, options: GalleryOptions = {}): Promise<Gallery> {
    refuseOthers("gallery", options, ["keepImages", "signal"]);
    const { keepImages = true, signal } = options;
    if (typeof name !== "string" || name === "") {
      throw new BlipError("bad-option", `the name of a gallery is ${String(name)}, expected a text`);
    }
    const { size } = (await host.index("open", [name], signal)) as ReturnType<GalleryOperations["open"]>;
    return new Gallery(host, name, keepImages, size);
  }

  /** How many images there are, as of the last call. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds images. One that cannot be read is named in the result and does not stop the others. Each batch is
   * stored as a whole before the next one begins.
   *
   * @throws BlipError `quota` when the storage is full; the batches before are stored. The reason of
   * `signal` when it is aborted, likewise.
   */
  async add(images: Iterable<GalleryItem> | AsyncIterable<GalleryItem>, options: AddOptions = {}): Promise<AddResult> {
    refuseOthers("add", options, ["signal", "onProgress", "batch"]);
    const { signal, onProgress, batch = LARGEST_BATCH } = options;
    if (typeof images !== "object" || images === null || !(Symbol.iterator in images || Symbol.asyncIterator in images)) {
      throw new BlipError("bad-option", `\`add\` takes a list of images, or another iterable; this is ${String(images)}`);
    }
    this.#assertOpen();
    if (!Number.isInteger(batch) || batch < 1 || batch > LARGEST_BATCH) {
      throw new BlipError("bad-option", `batch is ${String(batch)}, expected 1 to ${LARGEST_BATCH}`);
    }
    const total = countOf(images);
    const failed: FailedImage[] = [];
    let [added, skipped] = [0, 0];
    const waiting = new Map<string, ReadItem>();
    const report = (): void => {
      const done = added + skipped + failed.length;
      onProgress?.({ done, ...(total === undefined ? {} : { total }), added, skipped, failed: failed.length });
    };
    const flush = async (): Promise<void> => {
      if (waiting.size === 0) return;
      const pictures = await this.#embed([...waiting.values()], failed, signal);
      waiting.clear();
      const stored = await this.#call("add", [pictures], signal);
      added += stored.added;
      skipped += pictures.length - stored.added;
      this.#size = stored.size;
      report();
    };
    for await (const some of groups(images, LARGEST_BATCH, signal)) {
      const items = await Promise.all(some.map((item) => this.#read(item, failed, signal)));
      const read = items.filter((item) => item !== undefined);
      const known = await this.#call("has", [read.map(({ hash }) => hash)], signal);
      for (const [index, item] of read.entries()) {
        if (known[index] === true || waiting.has(item.hash)) {
          skipped++;
          continue;
        }
        waiting.set(item.hash, item);
        if (waiting.size === batch) await flush();
      }
      report();
    }
    await flush();
    return { added, skipped, failed };
  }

  /**
   * Finds images: by words where `query` is a string, else by an image (an address as a `URL`).
   *
   * @throws BlipError `task-unsupported` for `rerank` without a network for ITM; `bad-option` for `rerank`
   * where images are neither kept nor resolved.
   */
  async search(query: string | ImageInput, options: SearchOptions = {}): Promise<GalleryResult[]> {
    refuseOthers("search", options, ["topK", "rerank", "resolve", "signal"]);
    const { topK = 12, rerank = 0, resolve, signal } = options;
    this.#assertOpen();
    for (const [name, value] of [["topK", topK], ["rerank", rerank]] as const) {
      if (!Number.isInteger(value) || value < 0 || value >= 2 ** 32) {
        throw new BlipError("bad-option", `${name} is ${String(value)}, expected a whole number`);
      }
    }
    if (rerank > 0 && typeof query !== "string") {
      throw new BlipError("bad-option", "rerank looks at images again with words; this query is an image");
    }
    signal?.throwIfAborted();
    const embedding =
      typeof query === "string" ? await this.#host.embedText(query, signal) : (await this.#host.embedImages([query], signal))[0]!;
    const hits = await this.#call("search", [embedding, Math.max(topK, rerank)], signal);
    const found: GalleryResult[] = [];
    for (const [rank, hit] of hits.entries()) {
      const itm = rank < rerank ? await this.#look(hit, String(query), resolve, signal) : undefined;
      found.push(this.#result(hit, itm));
    }
    // Stable: those that were not looked at again keep their order, after the others.
    const order = ({ score, itm }: GalleryResult): number => (itm === undefined ? -Infinity : score);
    return found.sort((a, b) => compare(order(b), order(a))).slice(0, topK);
  }

  /**
   * Removes images by their keys or hashes, all at once, and tells how many there were; once that has begun, it
   * is done also where `signal` is aborted.
   */
  async delete(keys: string | readonly string[], options: { signal?: AbortSignal } = {}): Promise<number> {
    refuseOthers("delete", options, ["signal"]);
    const { removed, size } = await this.#call("remove", [typeof keys === "string" ? [keys] : [...keys]], options.signal);
    this.#size = size;
    return removed;
  }

  /** Removes every image. */
  async clear(): Promise<void> {
    this.#size = (await this.#call("clear", [])).size;
  }

  /** Keys and vectors as a file, which the `blip` command reads as well; without the images themselves. */
  async export(options: { signal?: AbortSignal } = {}): Promise<Blob> {
    refuseOthers("export", options, ["signal"]);
    const bytes = await this.#call("export", [], options.signal);
    return new Blob([bytes as Uint8Array<ArrayBuffer>], { type: "application/octet-stream" });
  }

  /**
   * Adds what another gallery exported; its images are not kept here. What was added when `signal` is aborted
   * stays, and is skipped by the next import.
   *
   * @throws BlipError `integrity` for a damaged file, `bad-option` for one of another model or none at all.
   */
  async import(file: Blob | ArrayBuffer | Uint8Array, options: { signal?: AbortSignal } = {}): Promise<{ added: number; skipped: number }> {
    refuseOthers("import", options, ["signal"]);
    const bytes = file instanceof Blob ? new Uint8Array(await file.arrayBuffer()) : new Uint8Array(file);
    const { added, skipped, size } = await this.#call("import", [bytes], options.signal);
    this.#size = size;
    return { added, skipped };
  }

  /** Frees the vectors' memory; what is stored stays. Safe to repeat. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // A disposed instance has closed everything itself.
    await this.#host.index("close", [this.name]).catch(() => {});
  }

  /** For `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new BlipError("disposed", `gallery \`${this.name}\` was closed`);
  }

  async #call<Op extends keyof GalleryOperations>(
    op: Op,
    args: Parameters<GalleryOperations[Op]>,
    signal?: AbortSignal,
  ): Promise<ReturnType<GalleryOperations[Op]>> {
    this.#assertOpen();
    return (await this.#host.index(op, [this.name, ...args], signal)) as ReturnType<GalleryOperations[Op]>;
  }

  async #read(item: GalleryItem, failed: FailedImage[], signal: AbortSignal | undefined): Promise<ReadItem | undefined> {
    const named = isNamed(item) ? item : { key: undefined, image: item };
    const key = named.key ?? keyOf(named.image);
    try {
      const payload = await abortable(readImage(named.image, signal), signal);
      const hash = await contentHash(payload);
      const type = named.image instanceof Blob ? named.image.type : "";
      const blob = this.#keepImages ? await fileOf(payload, type) : undefined;
      const source = payload.kind === "encoded" ? payload.bytes : imageData(payload);
      return { hash, key: key ?? hash, source, ...(blob === undefined ? {} : { blob }) };
    } catch (error) {
      if (signal?.aborted === true) throw error;
      failed.push(failure(key ?? "an image without a name", error));
      return undefined;
    }
  }

  /** Embeds images together; those that cannot be read become failures. */
  async #embed(items: ReadItem[], failed: FailedImage[], signal: AbortSignal | undefined): Promise<EmbeddedPicture[]> {
    for (let left = items; left.length > 0; ) {
      try {
        const sources = left.map(({ source }) => source);
        const embeddings = await this.#host.embedImages(sources, signal);
        return left.map(({ hash, key, blob }, index) => {
          return { hash, key, embedding: embeddings[index]!, ...(blob === undefined ? {} : { blob }) };
        });
      } catch (error) {
        const bad = isAboutAnImage(error) ? left[(error as BlipError).image ?? (left.length === 1 ? 0 : -1)] : undefined;
        if (bad === undefined) throw error;
        failed.push(failure(bad.key, error));
        left = left.filter((item) => item !== bad);
      }
    }
    return [];
  }

  /** What the ITM head says of an image that was found; nothing where the image cannot be had any more. */
  async #look(
    { hash, key }: GalleryHit,
    text: string,
    resolve: SearchOptions["resolve"],
    signal: AbortSignal | undefined,
  ): Promise<GalleryResult["itm"]> {
    const image = (await this.#call("blob", [hash], signal)) ?? (await resolve?.(key));
    if (image === undefined && resolve === undefined) {
      const message = `the gallery does not keep the image of \`${key}\``;
      throw new BlipError("bad-option", `${message}: rerank needs the option \`resolve\``);
    }
    if (image === undefined) return undefined;
    try {
      const { logit, probability } = await this.#host.matchScores(image, text, signal);
      return { logit, probability };
    } catch (error) {
      if (isAboutAnImage(error)) return undefined;
      throw error;
    }
  }

  #result({ key, hash, score: cosine }: GalleryHit, itm: GalleryResult["itm"]): GalleryResult {
    const blob = (): Promise<Blob | undefined> => this.#call("blob", [hash]);
    if (itm === undefined) return { key, hash, score: cosine, cosine, blob };
    return { key, hash, score: itm.logit + cosine, cosine, itm, blob };
  }
}

/** Opens a gallery of an instance's embeddings. */
export function openGallery(blip: Blip, client: Client, name: string, options: GalleryOptions): Promise<Gallery> {
  const host: GalleryHost = {
    embedImages: async (images, signal) => (await blip.embed({ image: images }, by(signal))).map(({ data }) => data),
    embedText: async (text, signal) => (await blip.embed({ text }, by(signal))).data,
    matchScores: async (image, text, signal) => {
      const { itm } = await blip.match(image, text, { heads: ["itm"], ...by(signal) });
      if (itm === undefined) throw new BlipError("internal", "the ITM head has no answer");
      return itm;
    },
    index: (op, args, signal) => client.gallery(op, args, signal),
  };
  return Gallery.open(host, name, options);
}

function by(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/** Options that do not exist would be lost without a word. */
function refuseOthers(call: string, options: object, known: readonly string[]): void {
  const other = Object.keys(record(`the options of \`${call}\``, options)).find((name) => !known.includes(name));
  if (other === undefined) return;
  throw new BlipError("bad-option", `\`${call}\` has no option \`${other}\`; known are ${known.join(", ")}`);
}

/** Infinities are equal to themselves. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}

function isNamed(item: GalleryItem): item is { readonly key: string; readonly image: ImageSource } {
  return typeof item === "object" && "key" in item && "image" in item && typeof item.key === "string";
}

function countOf(images: Iterable<unknown> | AsyncIterable<unknown>): number | undefined {
  const { length, size } = images as { length?: unknown; size?: unknown };
  if (typeof length === "number") return length;
  return typeof size === "number" ? size : undefined;
}

/** What a source is called; nothing for one without a name. */
function keyOf(image: ImageSource): string | undefined {
  if (typeof File !== "undefined" && image instanceof File) {
    return image.webkitRelativePath === "" || image.webkitRelativePath === undefined ? image.name : image.webkitRelativePath;
  }
  if (typeof image !== "string" && !(image instanceof URL)) return undefined;
  const address = String(image);
  if (/^(data|blob):/.test(address)) return undefined;
  return new URL(address, baseAddress()).href;
}

/** SHA-256 of a file; of pixels, that of their size and rows. */
async function contentHash(payload: ImagePayload): Promise<string> {
  if (payload.kind === "encoded") return sha256(payload.bytes);
  const { rgba, width, height } = payload;
  const bytes = new Uint8Array(8 + rgba.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  bytes.set(rgba, 8);
  return sha256(bytes);
}

function imageData({ rgba, width, height }: Extract<ImagePayload, { kind: "pixels" }>): ImageData {
  return new ImageData(new Uint8ClampedArray(rgba.buffer as ArrayBuffer, rgba.byteOffset, rgba.length), width, height);
}

/** A file of its own: what was picked may change on the disk. Pixels become a PNG. */
async function fileOf(payload: ImagePayload, type: string): Promise<Blob> {
  if (payload.kind === "encoded") return new Blob([payload.bytes as Uint8Array<ArrayBuffer>], { type });
  const canvas = new OffscreenCanvas(payload.width, payload.height);
  canvas.getContext("2d")?.putImageData(imageData(payload), 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

function failure(key: string, error: unknown): FailedImage {
  const { code, message } = toBlipError(error, "bad-image");
  return { key, code, message };
}

/** Whether another image might do. */
function isAboutAnImage(error: unknown): boolean {
  return error instanceof BlipError && ["bad-image", "image-too-large", "download-failed"].includes(error.code);
}
