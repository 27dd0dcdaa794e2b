/**
 * Where the pieces of model files are kept: the browser's Cache API, or memory where that is missing or full.
 *
 * A piece is one response under a made-up address, so each is stored whole or not at all, and pages and
 * workers of an origin see the same ones. Nothing here knows models: `cache.ts` says which pieces belong
 * to one.
 */

import { sha256 } from "./digest.js";
import type { CacheMode } from "./protocol.js";

/** The name of the cache; its layout changes with the number. */
export const CACHE_NAME = "blip-web-models-1";

/** Bytes of a piece, where a manifest does not say otherwise. */
export const CHUNK = 1 << 22;

/** Addresses of this host are never fetched. */
const HOST = "https://cache.blip-web.invalid/";
const DIGEST = "x-blip-sha256";
const LENGTH = "x-blip-bytes";

/** Opens the browser's cache, if this page has one. */
export async function openCache(): Promise<Cache | undefined> {
  try {
    return await globalThis.caches?.open(CACHE_NAME);
  } catch {
    // Sandboxed frames have the name, and no storage behind it.
    return undefined;
  }
}

/** The address of something in the cache: its kind, and parts that name it. */
export function address(kind: "chunk" | "model" | "partial", ...parts: readonly (string | number)[]): string {
  return `${HOST}${[kind, ...parts].map((part) => encodeURIComponent(part)).join("/")}`;
}

/** The parts of an address that `address` made. */
export function parts(url: string): readonly string[] {
  return url.startsWith(HOST) ? url.slice(HOST.length).split("/").map(decodeURIComponent) : [];
}

/** A response that says how long it is without being read. */
export function response(bytes: Uint8Array, digest = ""): Response {
  const headers = { "content-type": "application/octet-stream", [DIGEST]: digest, [LENGTH]: String(bytes.length) };
  return new Response(bytes as Uint8Array<ArrayBuffer>, { headers });
}

/** Bytes of a stored response. */
export function storedBytes(stored: Response): number {
  return Number(stored.headers.get(LENGTH) ?? 0);
}

/** A piece that was found, and whether it is what was stored. */
export interface Found {
  readonly bytes: Uint8Array;
  readonly sha256: string;
  readonly sound: boolean;
}

/** The pieces of files. */
export class Chunks {
  readonly #cache: Cache | undefined;
  /** Whether the cache takes what it is given: not after it refused once. */
  #writable: boolean;
  /** Addresses in the cache, so that asking what is there reads nothing. */
  #known = new Set<string>();
  readonly #memory = new Map<string, { bytes: Uint8Array; sha256: string }>();
  readonly #mode: CacheMode;
  readonly #onFull: (message: string) => void;

  private constructor(cache: Cache | undefined, mode: CacheMode, onFull: (message: string) => void) {
    this.#cache = cache;
    this.#writable = cache !== undefined;
    this.#mode = mode;
    this.#onFull = onFull;
  }

  /** Opens what `mode` allows; `onFull` hears once why the cache cannot be used. */
  static async open(mode: CacheMode, onFull: (message: string) => void): Promise<Chunks> {
    const cache = mode === "auto" || mode === "cache" ? await openCache() : undefined;
    const chunks = new Chunks(cache, mode, onFull);
    if (mode === "cache" && cache === undefined) onFull("this page has no Cache API; the model is kept in memory");
    await chunks.refresh();
    return chunks;
  }

  /** The browser's cache, where there is one. */
  get cache(): Cache | undefined {
    return this.#cache;
  }

  /** Whether the cache is there and was never full. */
  get writable(): boolean {
    return this.#writable;
  }

  /** Looks again at what is in the cache: another tab may have put it there. */
  async refresh(): Promise<void> {
    this.#known = new Set((await this.#cache?.keys().catch(() => []))?.map(({ url }) => url));
  }

  /** Whether a piece is here. */
  has(file: string, index: number): boolean {
    const key = address("chunk", file, index);
    return this.#known.has(key) || this.#memory.has(key);
  }

  /** A piece, checked against `expected`, or against the digest that it was stored with. */
  async get(file: string, index: number, expected?: string): Promise<Found | undefined> {
    const key = address("chunk", file, index);
    const held = this.#memory.get(key);
    if (held !== undefined) return { ...held, sound: expected === undefined || held.sha256 === expected };
    if (!this.#known.has(key)) return undefined;
    try {
      const stored = await this.#cache?.match(key);
      if (stored === undefined) return undefined;
      const bytes = new Uint8Array(await stored.arrayBuffer());
      const digest = await sha256(bytes);
      return { bytes, sha256: digest, sound: digest === (expected ?? stored.headers.get(DIGEST)) };
    } catch {
      // A cache that cannot be read is a cache without the piece.
      return undefined;
    }
  }

  /** Keeps a piece; `bytes` must not change any more. With `keep`, also where the mode keeps nothing. */
  async put(file: string, index: number, bytes: Uint8Array, digest: string, keep = this.#mode !== "none"): Promise<void> {
    if (await this.note(address("chunk", file, index), bytes, digest)) return;
    if (keep) this.#memory.set(address("chunk", file, index), { bytes, sha256: digest });
  }

  /** Forgets a piece. */
  async drop(file: string, index: number): Promise<void> {
    const key = address("chunk", file, index);
    this.#memory.delete(key);
    this.#known.delete(key);
    await this.#cache?.delete(key).catch(() => false);
  }

  /** Stores something under an address; false where that is not possible. */
  async note(key: string, bytes: Uint8Array, digest?: string): Promise<boolean> {
    if (!this.#writable) return false;
    try {
      await this.#cache?.put(key, response(bytes, digest));
      this.#known.add(key);
      return true;
    } catch (error) {
      this.#full(error);
      return false;
    }
  }

  /** From here on what is new is kept in memory; what is in the cache is still read. */
  #full(error: unknown): void {
    if (!this.#writable) return;
    this.#writable = false;
    const message = error instanceof Error ? error.message || error.name : String(error);
    this.#onFull(`the model cannot be cached: ${message}`);
  }
}
