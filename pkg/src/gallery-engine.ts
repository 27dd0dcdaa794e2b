/**
 * The engine's side of galleries: their vectors in the module's memory, read from IndexedDB when they are
 * first needed, and kept equal to it.
 */

import { GalleryStore, type GalleryState, type NewEntry } from "./gallery-store.js";
import { BlipError } from "./protocol.js";

/** `GalleryIndex` of `crate/src/wasm/gallery.rs`: vectors, and the search among them. */
export interface GalleryIndex {
  /** How many pictures there are. */
  size(): number;
  has(hash: string): boolean;
  /** Adds an embedding; false when its content is there. */
  add(hash: string, key: string, embedding: Float32Array): boolean;
  /** The stored form of a vector. */
  record(hash: string): Uint8Array | undefined;
  /** Adds a vector that was stored; false when its content is there. */
  restore(hash: string, key: string, record: Uint8Array): boolean;
  remove(hash: string): boolean;
  /** JSON of `GalleryHit[]`, best first. */
  search(embedding: Float32Array, k: number): string;
  /** JSON of `{hash, key}[]`. */
  entries(): string;
  /** The gallery's file. */
  toBytes(): Uint8Array;
  free(): void;
}

/** The part of the module that galleries use. */
export interface GalleryModule {
  readonly GalleryIndex: {
    new (width: number, fingerprint: string): GalleryIndex;
    /** Reads a gallery's file, of the model of that fingerprint. */
    fromBytes(bytes: Uint8Array, fingerprint: string): GalleryIndex;
  };
}

/** What the index finds. */
export interface GalleryHit {
  readonly hash: string;
  readonly key: string;
  /** The cosine of query and picture. */
  readonly score: number;
}

/** A picture that was embedded. */
export interface EmbeddedPicture {
  readonly hash: string;
  readonly key: string;
  readonly embedding: Float32Array;
  /** Its file, where it is to be kept. */
  readonly blob?: Blob;
}

/** Operations by name: what they take after the gallery's name, and what they answer. */
export interface GalleryOperations {
  /** Opens a gallery, or makes it. */
  open(): { readonly size: number };
  /** Which of these contents are there. */
  has(hashes: readonly string[]): readonly boolean[];
  /** Adds pictures, all of them or none. */
  add(pictures: readonly EmbeddedPicture[]): { readonly added: number; readonly size: number };
  search(embedding: Float32Array, k: number): readonly GalleryHit[];
  /** Removes pictures by key or hash. */
  remove(names: readonly string[]): { readonly removed: number; readonly size: number };
  clear(): { readonly size: number };
  size(): { readonly size: number };
  /** The file of a picture, where it was kept. */
  blob(hash: string): Blob | undefined;
  export(): Uint8Array;
  import(bytes: Uint8Array): { readonly added: number; readonly skipped: number; readonly size: number };
  close(): void;
}

/** Pictures of an imported gallery that become one transaction. */
const IMPORTED = 1000;

/** Serves the galleries of one host. */
export class GalleryEngine {
  readonly #open = new Map<string, OpenGallery>();

  /**
   * Does operation `op` with `[name, ...]` in `args`. `module` and `engine` are the present ones: vectors that
   * lie in the memory of an earlier module are read again.
   *
   * @throws BlipError `bad-option` for a gallery of another model, `task-unsupported` without a network for
   * ITC, `quota` when the storage is full: then nothing of the operation was stored.
   */
  async call(
    module: GalleryModule,
    engine: { loaded(): string },
    op: string,
    [name, ...args]: readonly unknown[],
  ): Promise<unknown> {
    const { fingerprint, width } = JSON.parse(engine.loaded()) as { fingerprint?: string | null; width?: number | null };
    if (typeof fingerprint !== "string" || typeof width !== "number") {
      throw new BlipError("task-unsupported", "no loaded network was trained for itc, which galleries are searched with");
    }
    const known = this.#open.get(String(name));
    if (known === undefined && op !== "open") throw new BlipError("disposed", "this gallery was closed");
    const gallery = known ?? new OpenGallery(new GalleryStore(name as string, fingerprint, width));
    gallery.use(module);
    // The types are those of `GalleryOperations`, which the page's side is checked against.
    const operation = (gallery as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[op];
    if (!OPERATIONS.has(op) || operation === undefined) throw new BlipError("internal", `galleries have no operation ${op}`);
    const result = await operation.apply(gallery, args);
    if (op === "open") {
      gallery.users++;
      this.#open.set(String(name), gallery);
    } else if (op === "close" && --gallery.users <= 0) {
      this.#open.delete(String(name));
      await gallery.release();
    }
    return result;
  }

  /** Lets go of every database and index. */
  async close(): Promise<void> {
    const all = [...this.#open.values()];
    this.#open.clear();
    for (const gallery of all) await gallery.release();
  }
}

const OPERATIONS: ReadonlySet<string> = new Set<keyof GalleryOperations>([
  "open",
  "has",
  "add",
  "search",
  "remove",
  "clear",
  "size",
  "blob",
  "export",
  "import",
  "close",
]);

/** The vectors, and which state of the database they are. */
interface Held {
  readonly index: GalleryIndex;
  readonly epoch: string;
  removals: number;
  seq: number;
}

type Promised = { [Op in keyof GalleryOperations]: (...args: Parameters<GalleryOperations[Op]>) => Promise<ReturnType<GalleryOperations[Op]>> };

class OpenGallery implements Promised {
  users = 0;
  readonly #store: GalleryStore;
  #module: GalleryModule | undefined;
  #held: Held | undefined;

  constructor(store: GalleryStore) {
    this.#store = store;
  }

  /** Vectors in the memory of another module cannot be used any more. */
  use(module: GalleryModule): void {
    if (this.#module !== undefined && this.#module !== module) this.#held = undefined;
    this.#module = module;
  }

  async open(): Promise<{ size: number }> {
    return this.size();
  }

  async has(hashes: readonly string[]): Promise<boolean[]> {
    const index = await this.#index();
    return hashes.map((hash) => index.has(hash));
  }

  async add(pictures: readonly EmbeddedPicture[]): Promise<{ added: number; size: number }> {
    const index = await this.#index();
    const entries: NewEntry[] = [];
    const forget = (): void => entries.forEach(({ hash }) => index.remove(hash));
    try {
      for (const { hash, key, embedding, blob } of pictures) {
        if (!index.add(hash, key, embedding)) continue;
        entries.push({ hash, key, record: index.record(hash)!, ...(blob === undefined ? {} : { blob }) });
      }
      const added = await this.#store.add(entries);
      return { added, size: index.size() };
    } catch (error) {
      forget();
      throw error;
    }
  }

  async search(embedding: Float32Array, k: number): Promise<GalleryHit[]> {
    return JSON.parse((await this.#index()).search(embedding, k)) as GalleryHit[];
  }

  async remove(names: readonly string[]): Promise<{ removed: number; size: number }> {
    const { removed, removals } = await this.#store.remove(names);
    const held = this.#held;
    // Nothing else was removed since: the vectors need not be read again.
    if (held !== undefined && removed.length > 0 && held.removals === removals - 1) {
      for (const hash of removed) held.index.remove(hash);
      held.removals = removals;
    }
    return { removed: removed.length, ...(await this.size()) };
  }

  async clear(): Promise<{ size: number }> {
    await this.#store.clear();
    return this.size();
  }

  async size(): Promise<{ size: number }> {
    return { size: (await this.#index()).size() };
  }

  async blob(hash: string): Promise<Blob | undefined> {
    return this.#store.blob(hash);
  }

  async export(): Promise<Uint8Array> {
    return (await this.#index()).toBytes();
  }

  async import(bytes: Uint8Array): Promise<{ added: number; skipped: number; size: number }> {
    const { fingerprint } = await this.#store.state();
    const other = this.#present().GalleryIndex.fromBytes(bytes, fingerprint);
    try {
      const all = JSON.parse(other.entries()) as { hash: string; key: string }[];
      let added = 0;
      for (let at = 0; at < all.length; at += IMPORTED) {
        const some = all.slice(at, at + IMPORTED);
        added += await this.#store.add(some.map(({ hash, key }) => ({ hash, key, record: other.record(hash)! })));
      }
      return { added, skipped: all.length - added, ...(await this.size()) };
    } finally {
      other.free();
    }
  }

  async close(): Promise<void> {}

  async release(): Promise<void> {
    this.#drop();
    await this.#store.close();
  }

  #present(): GalleryModule {
    if (this.#module === undefined) throw new BlipError("internal", "a gallery is used before there is a module");
    return this.#module;
  }

  #drop(): void {
    try {
      this.#held?.index.free();
    } catch {
      // The module has trapped: it is left behind with its memory.
    }
    this.#held = undefined;
  }

  /** The vectors as the database has them now. */
  async #index(): Promise<GalleryIndex> {
    const state = await this.#store.state();
    let held = this.#held;
    if (held !== undefined && (held.epoch !== state.epoch || held.removals !== state.removals)) {
      this.#drop();
      held = undefined;
    }
    held ??= this.#begin(state);
    if (held.seq < state.seq) {
      for await (const page of this.#store.after(held.seq)) {
        for (const { seq, hash, key, record } of page) {
          held.index.restore(hash, key, record);
          held.seq = seq;
        }
      }
      // The last ones may have been removed again.
      held.seq = Math.max(held.seq, state.seq);
    }
    return held.index;
  }

  #begin({ fingerprint, width, epoch, removals }: GalleryState): Held {
    const index = new (this.#present().GalleryIndex)(width, fingerprint);
    this.#held = { index, epoch, removals, seq: 0 };
    return this.#held;
  }
}
