/**
 * Models that are published with a manifest.
 *
 * The manifest is asked for every time, so that a new version is seen; everything else is known by its
 * digest. Without a network, or behind one that answers in the server's place, the manifest of the cache stands in.
 */

import { type Entry, readEntry } from "./cache.js";
import type { Chunks } from "./chunks.js";
import { DownloadError, HASTY, PATIENT, readFile, readRange } from "./download.js";
import { type ModelFile, limitTasks, parseManifest } from "./manifest.js";
import { type ChunkedFile, chunkSize } from "./pour.js";
import { type Prepared, type StoreOptions, prepareFiles } from "./remote.js";

/** The longest manifest that is read. */
const MANIFEST_LIMIT = 1 << 24;

/**
 * Looks a manifest up; no weights are asked for before `open`.
 *
 * @throws BlipError `download-failed` or `bad-config`.
 */
export async function preparePublished(url: string, options: StoreOptions, chunks: Chunks): Promise<Prepared> {
  const { signal, tasks } = options;
  const key = url.replace(/#.*/, "");
  const stored = await readEntry(chunks.cache, "model", key);
  const patience = stored === undefined ? options.patience : HASTY;
  let json: string;
  try {
    json = await readText(url, { signal, httpCache: "no-cache", ...(patience && { patience }) });
    // The page of a network that wants to be logged in to is no answer of the server.
    if (stored !== undefined && !isJson(json)) json = stored.manifest;
  } catch (error) {
    if (stored === undefined || !(error instanceof DownloadError && error.transient)) throw error;
    json = stored.manifest;
  }
  const full = parseManifest(json, url);
  const manifest = tasks === undefined ? full : limitTasks(full, tasks);
  const file = (entry: ModelFile): ChunkedFile => remoteFile(entry, new URL(entry.path, url).href, options, chunks, stored);
  const entry: Entry = { key, id: manifest.id, manifest: full.json, files: {}, saved: new Date().toISOString() };
  return prepareFiles({ entry, stored, manifest, file, options, chunks });
}

/** A file of a manifest: its pieces are named after its digest, whichever model they came with. */
function remoteFile(
  entry: ModelFile,
  url: string,
  { signal, patience = PATIENT }: StoreOptions,
  chunks: Chunks,
  stored: Entry | undefined,
): ChunkedFile {
  const { path, bytes, sha256, chunks: digests } = entry;
  return {
    path,
    name: sha256,
    bytes,
    chunk: chunkSize(entry),
    sha256,
    ...(digests === undefined ? {} : { digests: digests.sha256 }),
    proven: stored?.files[sha256] !== undefined,
    read: (start, end, fresh) => {
      // The browser need not keep a second copy; nor may it give out the damaged one again.
      const httpCache = fresh ? "reload" : chunks.writable ? "no-store" : "default";
      return readRange(url, [start, end, bytes], { signal, patience, httpCache });
    },
  };
}

async function readText(url: string, options: Parameters<typeof readFile>[2]): Promise<string> {
  return new TextDecoder().decode(await readFile(url, MANIFEST_LIMIT, options));
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
