/** Hands a file to whoever takes it: pieces from the cache where they are sound, the others from where they come from. */

import { CHUNK, type Chunks, type Found } from "./chunks.js";
import { Sha256, sha256 } from "./digest.js";
import { BlipError } from "./protocol.js";

/** The most bytes that are handed over at a time: what a copy of them in the engine's memory may take. */
const PIECE = 1 << 20;

/** A file that is kept in pieces. */
export interface ChunkedFile {
  /** What it is called in its manifest. */
  readonly path: string;
  /** What its pieces are called in the cache. */
  readonly name: string;
  readonly bytes: number;
  /** Bytes of a piece. */
  readonly chunk: number;
  /** The digest of the whole. */
  readonly sha256: string;
  /** Those of the pieces; absent in files whose manifest has none. */
  readonly digests?: readonly string[];
  /** Whether the whole was compared with its digest when it was stored. */
  readonly proven: boolean;
  /** Reads bytes from where the file comes from; `fresh` where what came before was damaged. */
  read(start: number, end: number, fresh: boolean): AsyncGenerator<Uint8Array, void, void>;
}

/** Takes the next bytes, and may ask to wait before there are more. */
export type Push = (piece: Uint8Array) => void | Promise<void>;

/** What pouring needs besides the file. */
export interface PourContext {
  readonly chunks: Chunks;
  readonly signal: AbortSignal;
  /** Bytes of the file so far. */
  report(loaded: number, fromCache: boolean): void;
  /** A piece of the cache was damaged. */
  onRefetch(message: string): void;
}

/** Cuts a stream of bytes into the pieces of a file. */
export class Cutter {
  readonly #file: Pick<ChunkedFile, "bytes" | "chunk">;
  #index: number;
  #bytes: Uint8Array;
  #filled = 0;

  /** Begins with the piece of this index, of which `head` is already there. */
  constructor(file: Pick<ChunkedFile, "bytes" | "chunk">, index: number, head: Uint8Array = new Uint8Array()) {
    this.#file = file;
    this.#index = index;
    this.#bytes = new Uint8Array(chunkBytes(file, index));
    this.#bytes.set(head);
    this.#filled = head.length;
  }

  /** The piece that is being filled: its index, and what there is of it. */
  get rest(): { readonly index: number; readonly bytes: Uint8Array } {
    return { index: this.#index, bytes: this.#bytes.subarray(0, this.#filled) };
  }

  /** Takes bytes; returns the pieces that are complete with them. Bytes behind the end of the file are an error. */
  take(bytes: Uint8Array): { readonly index: number; readonly bytes: Uint8Array }[] {
    const complete = [];
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(this.#bytes.length - this.#filled, bytes.length - at);
      if (length === 0) throw new BlipError("internal", `more than the ${this.#file.bytes} bytes of a file came`);
      this.#bytes.set(bytes.subarray(at, at + length), this.#filled);
      this.#filled += length;
      at += length;
      if (this.#filled < this.#bytes.length) continue;
      complete.push({ index: this.#index, bytes: this.#bytes });
      this.#bytes = new Uint8Array(chunkBytes(this.#file, ++this.#index));
      this.#filled = 0;
    }
    return complete;
  }
}

/** Into how many pieces a file is cut. */
export function chunkCount({ bytes, chunk }: Pick<ChunkedFile, "bytes" | "chunk">): number {
  return Math.ceil(bytes / chunk);
}

function chunkBytes({ bytes, chunk }: Pick<ChunkedFile, "bytes" | "chunk">, index: number): number {
  return Math.max(0, Math.min(chunk, bytes - index * chunk));
}

/** How many bytes of a file are in the cache. */
export function heldBytes(file: Pick<ChunkedFile, "bytes" | "chunk" | "name">, chunks: Chunks): number {
  let bytes = 0;
  for (let index = 0; index < chunkCount(file); index++) {
    if (chunks.has(file.name, index)) bytes += chunkBytes(file, index);
  }
  return bytes;
}

/**
 * Hands the bytes of `file` to `push`, in order. What is not in the cache is read and stored; a piece that
 * is damaged there is read again, alone.
 *
 * @throws BlipError `integrity`, what reading throws, and what `push` throws.
 */
export async function pourFile(file: ChunkedFile, context: PourContext, push: Push): Promise<void> {
  const { chunks, signal } = context;
  const count = chunkCount(file);
  const whole = file.digests === undefined && !file.proven ? new Sha256() : undefined;
  const hand = async (bytes: Uint8Array): Promise<void> => {
    whole?.update(bytes);
    for (let at = 0; at < bytes.length; at += PIECE) await push(bytes.subarray(at, at + PIECE));
  };
  const read = (index: number): Promise<Found | undefined> => chunks.get(file.name, index, file.digests?.[index]);
  let next: Promise<Found | undefined> | undefined;
  for (let index = 0; index < count; ) {
    signal.throwIfAborted();
    const found = await (next ?? read(index));
    next = undefined;
    if (found?.sound) {
      // The next piece is read and checked while this one is taken.
      if (chunks.has(file.name, index + 1)) next = read(index + 1);
      await hand(found.bytes);
      context.report(index * file.chunk + found.bytes.length, true);
      index++;
      continue;
    }
    // A damaged piece is replaced alone; a missing one begins what is missing.
    let end = index + 1;
    if (found !== undefined) {
      await chunks.drop(file.name, index);
      context.onRefetch(`${file.path}: piece ${index + 1} of ${count} was damaged in the cache and is read again`);
    } else {
      while (end < count && !chunks.has(file.name, end)) end++;
    }
    await download(file, index, end, found !== undefined, context, hand);
    index = end;
  }
  if (whole !== undefined && whole.hex() !== file.sha256) {
    // Nothing tells which piece is wrong.
    for (let index = 0; index < count; index++) await chunks.drop(file.name, index);
    throw new BlipError("integrity", `${file.path}: differs from its manifest`);
  }
}

/** Reads, checks, hands over and stores the pieces `first..end`. */
async function download(
  file: ChunkedFile,
  first: number,
  end: number,
  fresh: boolean,
  { chunks, signal, report }: PourContext,
  hand: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const stop = Math.min(end * file.chunk, file.bytes);
  const cutter = new Cutter(file, first);
  let loaded = first * file.chunk;
  for await (const piece of file.read(loaded, stop, fresh)) {
    signal.throwIfAborted();
    loaded += piece.length;
    for (const { index, bytes: came } of cutter.take(piece)) {
      const { bytes, digest } = await checked(file, index, came, fresh);
      // The engine takes its copy while the browser stores its own.
      const stored = chunks.put(file.name, index, bytes, digest);
      try {
        await hand(bytes);
      } finally {
        await stored;
      }
      signal.throwIfAborted();
    }
    report(loaded, false);
  }
  if (loaded < stop) throw new BlipError("integrity", `${file.path}: ends after ${loaded} bytes, expected ${file.bytes}`);
}

/** A piece that is what the manifest says: it came so, or it does when it is read once more. */
async function checked(
  file: ChunkedFile,
  index: number,
  bytes: Uint8Array,
  fresh: boolean,
): Promise<{ readonly bytes: Uint8Array; readonly digest: string }> {
  const digest = await sha256(bytes);
  const expected = file.digests?.[index];
  if (expected === undefined || digest === expected) return { bytes, digest };
  if (!fresh) {
    const start = index * file.chunk;
    const again = new Cutter(file, index);
    for await (const piece of file.read(start, start + bytes.length, true)) {
      const [complete] = again.take(piece);
      if (complete !== undefined) return checked(file, index, complete.bytes, true);
    }
  }
  throw new BlipError("integrity", `${file.path}: piece ${index + 1} of ${chunkCount(file)} differs from its manifest`);
}

/** How a file of a manifest is cut. */
export function chunkSize(file: { readonly chunks?: { readonly size: number } }): number {
  return file.chunks?.size ?? CHUNK;
}
