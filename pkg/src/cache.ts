/**
 * Which models are in the cache: an entry for each, stored after all of its pieces.
 *
 * An entry is what makes a model usable without a network. Pieces without an entry belong to a download
 * that has not ended; a note of their own says whose they are, so that they can be counted and deleted.
 */

import { CACHE_NAME, type Chunks, address, openCache, parts, storedBytes } from "./chunks.js";

/** A file of a cached model: the name of its pieces, their size, and how many bytes they have together. */
export interface CachedFile {
  readonly name: string;
  readonly bytes: number;
  readonly chunk: number;
}

/** What the cache knows of a model. */
export interface Entry {
  /** The address of its manifest, or its repository, revision and precision. */
  readonly key: string;
  readonly id: string;
  /** The text of its `blip.json`; empty while a conversion runs. */
  readonly manifest: string;
  /** Its files by the digests of the manifest. */
  readonly files: Readonly<Record<string, CachedFile>>;
  /** The commit of the repository that it was made from. */
  readonly commit?: string;
  /** When it was stored, as an ISO date. */
  readonly saved: string;
}

/** A model in the cache, as `Blip.cache.list()` shows it. */
export interface CachedModel {
  /** The address of its manifest, or its repository, revision and precision; `delete` takes it, or `id`. */
  readonly key: string;
  /** Its name. */
  readonly id: string;
  /** Bytes in the cache. */
  readonly bytes: number;
  /** False for a download that was interrupted; it goes on where it stopped. */
  readonly complete: boolean;
  /** The commit of the repository that it was made from. */
  readonly commit?: string;
  /** When it was stored, as an ISO date. */
  readonly saved: string;
}

type Kind = "model" | "partial";

/** Models that were downloaded before, on this origin. */
export const modelCache = {
  /** The models in the cache, interrupted downloads included. */
  async list(): Promise<CachedModel[]> {
    const cache = await openCache();
    if (cache === undefined) return [];
    const sizes = await sizesByFile(cache);
    const [models, partials] = [await entries(cache, "model"), await entries(cache, "partial")];
    const shown = (entry: Entry, complete: boolean): CachedModel => {
      const names = new Set(Object.values(entry.files).map(({ name }) => name));
      const bytes = [...names].reduce((sum, name) => sum + (sizes.get(name) ?? 0), 0);
      const { key, id, commit, saved } = entry;
      return { key, id, bytes, complete, saved, ...(commit === undefined ? {} : { commit }) };
    };
    return [...models.map((entry) => shown(entry, true)), ...partials.map((entry) => shown(entry, false))];
  },

  /** Deletes the models whose key or id this is; without one, everything. Instances that run are not harmed. */
  async delete(name?: string): Promise<void> {
    if (name === undefined) {
      await globalThis.caches?.delete(CACHE_NAME).catch(() => false);
      return;
    }
    const cache = await openCache();
    if (cache === undefined) return;
    for (const kind of ["model", "partial"] as const) {
      for (const { key, id } of await entries(cache, kind)) {
        if (key === name || id === name) await forget(cache, kind, key);
      }
    }
  },

  /** Bytes of everything in the cache. */
  async size(): Promise<number> {
    const cache = await openCache();
    const stored = (await cache?.matchAll()) ?? [];
    return stored.reduce((sum, response) => sum + storedBytes(response), 0);
  },
};

/** The entry of a model, if it was stored. */
export async function readEntry(cache: Cache | undefined, kind: Kind, key: string): Promise<Entry | undefined> {
  try {
    const stored = await cache?.match(address(kind, key));
    return stored === undefined ? undefined : parseEntry(await stored.text());
  } catch {
    // What cannot be read is stored anew.
    return undefined;
  }
}

/**
 * Notes that the pieces of these files belong to a download of `entry.key`, before the first of them is
 * stored; what an earlier download of other files left behind is deleted.
 */
export async function begin(chunks: Chunks, entry: Entry): Promise<void> {
  await note(chunks, "partial", entry);
}

/**
 * Makes a model visible: all of its pieces are stored. What the entry before it had and it has not is
 * deleted. False when the cache is full.
 */
export async function commit(chunks: Chunks, entry: Entry): Promise<boolean> {
  const { cache } = chunks;
  if (cache === undefined || !(await note(chunks, "model", entry))) return false;
  await forget(cache, "partial", entry.key);
  return true;
}

async function note(chunks: Chunks, kind: Kind, entry: Entry): Promise<boolean> {
  const { cache } = chunks;
  const before = await readEntry(cache, kind, entry.key);
  if (!(await chunks.note(address(kind, entry.key), new TextEncoder().encode(JSON.stringify(entry))))) return false;
  if (cache !== undefined && before !== undefined) await sweep(cache, before);
  return true;
}

/** Deletes an entry, and the pieces that no other needs. */
export async function forget(cache: Cache, kind: Kind, key: string): Promise<void> {
  const entry = await readEntry(cache, kind, key);
  await cache.delete(address(kind, key));
  if (entry === undefined) return;
  await sweep(cache, entry);
}

/** Deletes those pieces of an entry that is gone which belong to no other. */
async function sweep(cache: Cache, gone: Entry): Promise<void> {
  const names = new Set(Object.values(gone.files).map(({ name }) => name));
  for (const kind of ["model", "partial"] as const) {
    for (const { files } of await entries(cache, kind)) {
      for (const { name } of Object.values(files)) names.delete(name);
    }
  }
  if (names.size === 0) return;
  for (const { url } of await cache.keys()) {
    const [kind, name] = parts(url);
    if (kind === "chunk" && name !== undefined && names.has(name)) await cache.delete(url);
  }
}

async function entries(cache: Cache, wanted: Kind): Promise<Entry[]> {
  const found: Entry[] = [];
  for (const { url } of await cache.keys()) {
    const [kind, key] = parts(url);
    if (kind !== wanted || key === undefined) continue;
    const entry = await readEntry(cache, kind, key);
    if (entry !== undefined) found.push(entry);
  }
  return found;
}

/** Bytes of the pieces of every file. */
async function sizesByFile(cache: Cache): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  for (const { url } of await cache.keys()) {
    const [kind, name] = parts(url);
    if (kind !== "chunk" || name === undefined) continue;
    const stored = await cache.match(url);
    if (stored !== undefined) sizes.set(name, (sizes.get(name) ?? 0) + storedBytes(stored));
  }
  return sizes;
}

/** An entry that this version wrote; anything else is as good as none. */
function parseEntry(text: string): Entry | undefined {
  const value = JSON.parse(text) as Partial<Entry> | null;
  const ok = typeof value?.key === "string" && typeof value.id === "string" && typeof value.manifest === "string";
  return ok && typeof value.files === "object" && value.files !== null ? (value as Entry) : undefined;
}

/**
 * Runs `work` while no other tab of this origin does the same for `key`: a model is not downloaded twice
 * at once. Nothing depends on it; where there are no locks, both store the same pieces.
 */
export async function alone<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks;
  if (locks === undefined) return work();
  return (await locks.request(lockName(key), { signal }, work)) as T;
}

/** Whether some tab of this origin is downloading the model. */
export async function isBusy(key: string): Promise<boolean> {
  const held = (await globalThis.navigator?.locks?.query().catch(() => undefined))?.held ?? [];
  return held.some(({ name }) => name === lockName(key));
}

function lockName(key: string): string {
  return `blip-web ${key}`;
}
