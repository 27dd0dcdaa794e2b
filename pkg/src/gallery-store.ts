/**
 * Galleries in IndexedDB: one database a gallery. Every change is one transaction, so that what is there is
 * whole whatever happens to the page, and several tabs can have the same gallery open.
 */

import { BlipError } from "./protocol.js";

const PREFIX = "blip-gallery:";
const VERSION = 1;
const LONGEST_NAME = 200;
/** Entries that are read at a time. */
const PAGE = 2000;
/** How long another tab may hold up the opening or deletion of a database, in milliseconds. */
const PATIENCE = 10_000;

/** A picture of a gallery, without its file. */
export interface StoredEntry {
  /** Counts up with every entry that is added. */
  readonly seq: number;
  /** SHA-256 of the picture, in hexadecimal. */
  readonly hash: string;
  readonly key: string;
  /** The vector, as `GalleryIndex.record` gives it. */
  readonly record: Uint8Array;
  /** When it was added, in milliseconds since 1970. */
  readonly added: number;
}

/** A picture to be added, perhaps with its file. */
export interface NewEntry extends Pick<StoredEntry, "hash" | "key" | "record"> {
  readonly blob?: Blob;
}

/** What a gallery is of, and how often it was changed. */
export interface GalleryState {
  readonly fingerprint: string;
  /** Values of an embedding. */
  readonly width: number;
  /** Tells a database from one that had its name before. */
  readonly epoch: string;
  /** The `seq` of the last entry that was added. */
  readonly seq: number;
  /** How often something was removed. */
  readonly removals: number;
}

/** The names of all galleries of this origin. */
export async function listGalleries(): Promise<string[]> {
  const { databases } = factory();
  if (databases === undefined) throw new BlipError("feature-missing", "this browser cannot list its databases");
  const all = await asBlipError(factory().databases());
  return all.flatMap(({ name }) => (name?.startsWith(PREFIX) === true ? [name.slice(PREFIX.length)] : [])).sort();
}

/** Deletes a gallery; tabs that have it open find it empty. */
export async function deleteGallery(name: string): Promise<void> {
  await opened(factory().deleteDatabase(PREFIX + checkedName(name)), name);
}

/** A gallery's database. It is opened when it is needed, and let go when another tab deletes it. */
export class GalleryStore {
  readonly #name: string;
  readonly #fingerprint: string;
  readonly #width: number;
  #database: Promise<IDBDatabase> | undefined;

  /** For embeddings of `width` values, of the model of `fingerprint`. */
  constructor(name: string, fingerprint: string, width: number) {
    this.#name = checkedName(name);
    this.#fingerprint = fingerprint;
    this.#width = width;
  }

  /** The state at this moment, with what other tabs did. */
  async state(): Promise<GalleryState> {
    return this.#transaction("readonly", ["state"], (stores) => stateOf(stores));
  }

  /** The first pictures that were added after entry `seq`, in order; none when there are no more. */
  async page(seq: number): Promise<StoredEntry[]> {
    const range = IDBKeyRange.lowerBound(seq, true);
    return this.#transaction("readonly", ["entries"], ({ entries }) => answer<StoredEntry[]>(entries.getAll(range, PAGE)));
  }

  /** Adds pictures, all of them or none; those whose content is there are left out. How many were added. */
  async add(pictures: readonly NewEntry[]): Promise<number> {
    return this.#transaction("readwrite", ["state", "entries", "pictures"], async (stores) => {
      const state = await stateOf(stores);
      let { seq } = state;
      const added = Date.now();
      for (const { hash, key, record, blob } of pictures) {
        if ((await answer(stores.entries.index("hash").getKey(hash))) !== undefined) continue;
        seq++;
        stores.entries.add({ seq, hash, key, record, added } satisfies StoredEntry);
        if (blob !== undefined) stores.pictures.put(blob, hash);
      }
      stores.state.put({ ...state, seq } satisfies GalleryState, "state");
      return seq - state.seq;
    });
  }

  /** Removes pictures by their keys or hashes; the hashes of those that were there, and `removals` after that. */
  async remove(names: readonly string[]): Promise<{ removed: string[]; removals: number }> {
    return this.#transaction("readwrite", ["state", "entries", "pictures"], async (stores) => {
      const removed: string[] = [];
      for (const name of names) {
        const byHash = await answer<StoredEntry[]>(stores.entries.index("hash").getAll(name));
        const byKey = await answer<StoredEntry[]>(stores.entries.index("key").getAll(name));
        for (const { seq, hash } of new Map([...byHash, ...byKey].map((entry) => [entry.seq, entry])).values()) {
          stores.entries.delete(seq);
          stores.pictures.delete(hash);
          removed.push(hash);
        }
      }
      return { removed, removals: await count(stores, removed.length > 0 ? 1 : 0) };
    });
  }

  /** Removes everything. */
  async clear(): Promise<void> {
    await this.#transaction("readwrite", ["state", "entries", "pictures"], async (stores) => {
      stores.entries.clear();
      stores.pictures.clear();
      await count(stores, 1);
    });
  }

  /** The file of a picture, where it was kept. */
  async blob(hash: string): Promise<Blob | undefined> {
    return this.#transaction("readonly", ["pictures"], ({ pictures }) => answer<Blob | undefined>(pictures.get(hash)));
  }

  /** Lets go of the database. */
  async close(): Promise<void> {
    const database = this.#database;
    this.#database = undefined;
    (await database?.catch(() => undefined))?.close();
  }

  async #open(): Promise<IDBDatabase> {
    const request = factory().open(PREFIX + this.#name, VERSION);
    request.onupgradeneeded = () => {
      const database = request.result;
      const entries = database.createObjectStore("entries", { keyPath: "seq" });
      entries.createIndex("hash", "hash", { unique: true });
      entries.createIndex("key", "key");
      database.createObjectStore("pictures");
      const [fingerprint, width] = [this.#fingerprint, this.#width];
      const state: GalleryState = { fingerprint, width, epoch: randomName(), seq: 0, removals: 0 };
      database.createObjectStore("state").put(state, "state");
    };
    const database = await opened(request, this.#name);
    const release = (): void => {
      database.close();
      this.#database = undefined;
    };
    // Another tab deletes it, or the user clears the storage.
    database.onversionchange = release;
    database.onclose = release;
    try {
      const { fingerprint } = await asBlipError(run(database, "readonly", ["state"], stateOf));
      if (fingerprint !== this.#fingerprint) {
        const message = `gallery \`${this.#name}\` is of another model: of \`${fingerprint}\`, expected \`${this.#fingerprint}\``;
        throw new BlipError("bad-option", `${message}; give it another name, or delete it`);
      }
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  }

  async #transaction<Name extends StoreName, T>(
    mode: IDBTransactionMode,
    names: readonly Name[],
    work: (stores: Stores<Name>) => Promise<T>,
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      this.#database ??= this.#open();
      const database = this.#database;
      try {
        return await asBlipError(run(await database, mode, names, work));
      } catch (error) {
        if (this.#database === database && (await database.catch(() => undefined)) === undefined) this.#database = undefined;
        // It was closed between two calls: by another tab that deleted it.
        const wasClosed = error instanceof BlipError && isNamed(error.cause, "InvalidStateError");
        if (!wasClosed || attempt === 2) throw error;
        this.#database = undefined;
      }
    }
  }
}

type StoreName = "entries" | "pictures" | "state";
type Stores<Name extends StoreName> = Readonly<Record<Name, IDBObjectStore>>;

/** Does `work` in a transaction and waits for its end; what `work` throws takes back all of it. */
async function run<Name extends StoreName, T>(
  database: IDBDatabase,
  mode: IDBTransactionMode,
  names: readonly Name[],
  work: (stores: Stores<Name>) => Promise<T>,
): Promise<T> {
  const transaction = database.transaction([...names], mode);
  const ended = new Promise<void>((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new BlipError("io", "the browser took back a change of the gallery"));
  });
  // Reported below, or with what `work` throws.
  ended.catch(() => {});
  const stores = Object.fromEntries(names.map((name) => [name, transaction.objectStore(name)])) as Stores<Name>;
  try {
    const result = await work(stores);
    await ended;
    return result;
  } catch (error) {
    try {
      transaction.abort();
    } catch {
      // It has ended already, which is why `work` failed; its own reason says more.
      await ended;
    }
    throw error;
  }
}

function answer<T>(request: IDBRequest): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result as T);
    request.onerror = () => reject(request.error);
  });
}

async function stateOf({ state }: Stores<"state">): Promise<GalleryState> {
  const found = await answer<GalleryState | undefined>(state.get("state"));
  if (found === undefined) throw new BlipError("integrity", "the gallery's database was not made by this package");
  return found;
}

/** Counts removals. */
async function count(stores: Stores<"state">, more: number): Promise<number> {
  const state = await stateOf(stores);
  const removals = state.removals + more;
  if (more > 0) stores.state.put({ ...state, removals } satisfies GalleryState, "state");
  return removals;
}

/** A database that is opened or deleted; other tabs are asked to let go of it, and given some time. */
function opened(request: IDBOpenDBRequest, name: string): Promise<IDBDatabase> {
  const result = new Promise<IDBDatabase>((resolve, reject) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isLate = false;
    request.onblocked = () => {
      timer = setTimeout(() => {
        isLate = true;
        reject(new BlipError("io", `gallery \`${name}\` is in use by another tab, which does not let go of it`));
      }, PATIENCE);
    };
    request.onsuccess = () => {
      clearTimeout(timer);
      // Nobody waits any more, and left open it would be in the way of others. A deletion has no result.
      if (isLate) (request.result as IDBDatabase | undefined)?.close();
      else resolve(request.result);
    };
    request.onerror = () => {
      clearTimeout(timer);
      reject(request.error);
    };
  });
  return asBlipError(result);
}

async function asBlipError<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof BlipError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    if (isNamed(error, "QuotaExceededError")) {
      throw new BlipError("quota", `the browser's storage is full: ${message}`, { cause: error });
    }
    throw new BlipError("io", `the gallery's database: ${message}`, { cause: error });
  }
}

function isNamed(error: unknown, name: string): boolean {
  return typeof error === "object" && error !== null && (error as { name?: unknown }).name === name;
}

function factory(): IDBFactory {
  const { indexedDB } = globalThis as { indexedDB?: IDBFactory };
  if (indexedDB === undefined) throw new BlipError("feature-missing", "there is no IndexedDB here, which galleries are kept in");
  return indexedDB;
}

function checkedName(name: string): string {
  if (typeof name === "string" && name !== "" && name.length <= LONGEST_NAME) return name;
  throw new BlipError("bad-option", `the name of a gallery is ${JSON.stringify(name)}, expected 1 to ${LONGEST_NAME} characters`);
}

function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
}
