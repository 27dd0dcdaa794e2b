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

/** Lends the present module and its engine to a piece of work, and other ones once more when they are lost. */
export type Lend = <T>(work: (engine: { loaded(): string }, module: GalleryModule) => Promise<T>) => Promise<T>;

/** Serves the galleries of one host. */
export class GalleryEngine {
  readonly #open = new Map<string, OpenGallery>();

  /**
   * Does operation `op` with `[name, ...]` in `args`, in turns: a page of vectors that is read, or a transaction of
   * an import. Between two the module may become another one: vectors that lie in the memory of an earlier one are
   * read again.
   *
   * @throws BlipError `bad-option` for a gallery of another model, `task-unsupported` without a network for
   * ITC, `quota` when the storage is full: then nothing of the operation was stored.
   */
  async *call(lend: Lend, op: string, [name, ...args]: readonly unknown[]): AsyncGenerator<void, unknown, void> {
    const gallery = await lend(async (engine) => this.#find(String(name), op, engine.loaded()));
    // As long as it works, others can close it.
    gallery.users++;
    try {
      const result = yield* gallery.turns(lend, op as keyof GalleryOperations, args);
      if (op === "open") gallery.users++;
      if (op === "close") gallery.users--;
      return result;
    } finally {
      if (--gallery.users <= 0) {
        if (this.#open.get(String(name)) === gallery) this.#open.delete(String(name));
        await gallery.release();
      }
    }
  }

  /** Lets go of every database and index. */
  async close(): Promise<void> {
    const all = [...this.#open.values()];
    this.#open.clear();
    for (const gallery of all) await gallery.release();
  }

  #find(name: string, op: string, loaded: string): OpenGallery {
    const { fingerprint, width } = JSON.parse(loaded) as { fingerprint?: string | null; width?: number | null };
    if (typeof fingerprint !== "string" || typeof width !== "number") {
      throw new BlipError("task-unsupported", "no loaded network was trained for itc, which galleries are searched with");
    }
    if (!OPERATIONS.has(op)) throw new BlipError("internal", `galleries have no operation ${op}`);
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    if (op !== "open") throw new BlipError("disposed", "this gallery was closed");
    const gallery = new OpenGallery(new GalleryStore(name, fingerprint, width));
    this.#open.set(name, gallery);
    return gallery;
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

/** Operations that need the vectors, all of them. */
const SEARCHED: ReadonlySet<string> = new Set<keyof GalleryOperations>(["open", "has", "add", "search", "remove", "size", "export"]);

/** Operations that are one turn, once the vectors are there. */
type Single = Exclude<keyof GalleryOperations, "import">;
type Promised = { [Op in Single]: (...args: Parameters<GalleryOperations[Op]>) => Promise<ReturnType<GalleryOperations[Op]>> };

class OpenGallery implements Promised {
  users = 0;
  readonly #store: GalleryStore;
  #module: GalleryModule | undefined;
  #held: Held | undefined;

  constructor(store: GalleryStore) {
    this.#store = store;
  }

  /** An operation in turns. */
  async *turns(lend: Lend, op: keyof GalleryOperations, args: readonly unknown[]): AsyncGenerator<void, unknown, void> {
    if (op === "import") return yield* this.#import(lend, args[0] as Uint8Array);
    if (SEARCHED.has(op)) yield* this.#read(lend);
    // The types are those of `GalleryOperations`, which the page's side is checked against.
    const operation = (this as unknown as Record<string, (...args: readonly unknown[]) => Promise<unknown>>)[op]!;
    return this.#using(lend, () => operation.apply(this, [...args]));
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

  async close(): Promise<void> {}

  async release(): Promise<void> {
    this.#drop();
    await this.#store.close();
  }

  async *#import(lend: Lend, bytes: Uint8Array): AsyncGenerator<void, ReturnType<GalleryOperations["import"]>, void> {
    const { fingerprint } = await this.#store.state();
    const all = await this.#using(lend, async () => entriesOf(this.#present(), bytes, fingerprint));
    let added = 0;
    for (let at = 0; at < all.length; at += IMPORTED) {
      if (at > 0) yield;
      added += await this.#store.add(all.slice(at, at + IMPORTED));
    }
    yield* this.#read(lend);
    return { added, skipped: all.length - added, ...(await this.#using(lend, () => this.size())) };
  }

  /** Reads vectors until those of the database are here, a page a turn. */
  async *#read(lend: Lend): AsyncGenerator<void, void, void> {
    while (!(await this.#using(lend, () => this.#readPage()))) yield;
  }

  /** Work in the present module: vectors in the memory of another one cannot be used any more. */
  async #using<T>(lend: Lend, work: () => Promise<T>): Promise<T> {
    return lend(async (_engine, module) => {
      if (this.#module !== undefined && this.#module !== module) this.#held = undefined;
      this.#module = module;
      return work();
    });
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
    while (!(await this.#readPage()));
    return this.#held!.index;
  }

  /** Reads some of the vectors that are missing; whether all of them are here. */
  async #readPage(): Promise<boolean> {
    const state = await this.#store.state();
    let held = this.#held;
    if (held !== undefined && (held.epoch !== state.epoch || held.removals !== state.removals)) {
      this.#drop();
      held = undefined;
    }
    held ??= this.#begin(state);
    if (held.seq >= state.seq) return true;
    const page = await this.#store.page(held.seq);
    for (const { seq, hash, key, record } of page) {
      held.index.restore(hash, key, record);
      held.seq = seq;
    }
    // The last ones may have been removed again.
    if (page.length === 0) held.seq = state.seq;
    return held.seq >= state.seq;
  }

  #begin({ fingerprint, width, epoch, removals }: GalleryState): Held {
    const index = new (this.#present().GalleryIndex)(width, fingerprint);
    this.#held = { index, epoch, removals, seq: 0 };
    return this.#held;
  }
}

/** Everything in a gallery's file, in the memory of this thread: the module may become another one meanwhile. */
function entriesOf(module: GalleryModule, bytes: Uint8Array, fingerprint: string): NewEntry[] {
  const index = module.GalleryIndex.fromBytes(bytes, fingerprint);
  try {
    const all = JSON.parse(index.entries()) as { hash: string; key: string }[];
    return all.map(({ hash, key }) => ({ hash, key, record: index.record(hash)! }));
  } finally {
    index.free();
  }
}
