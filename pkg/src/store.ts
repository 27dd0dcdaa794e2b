/** Downloads a model: manifest, then files, with progress; every byte is checked before it is used. */

import { type Manifest, type ModelFile, parseManifest } from "./manifest.js";
import { BlipError, type Progress } from "./protocol.js";

/** A model's files in memory, as the engine takes them. */
export interface StoredModel {
  readonly manifest: Manifest;
  readonly weights: Uint8Array;
  readonly vocab: Uint8Array;
}

/**
 * Fetches the model that `manifestUrl` describes.
 *
 * @throws BlipError `download-failed`, `integrity` or `bad-config`.
 */
export async function fetchModel(
  manifestUrl: string,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<StoredModel> {
  const response = await request(manifestUrl, signal);
  const manifest = parseManifest(await readText(response, manifestUrl, signal), manifestUrl);
  const { weights, vocab } = manifest.files;
  const total = weights.bytes + vocab.bytes;
  let before = 0;
  const fetchNext = async (file: ModelFile): Promise<Uint8Array> => {
    const url = new URL(file.path, manifestUrl).href;
    const report = (loaded: number): void => {
      onProgress({ phase: "download", file: file.path, loaded: before + loaded, total });
    };
    const bytes = await fetchFile(url, file, report, signal);
    before += file.bytes;
    return bytes;
  };
  // The small file first: a broken deployment shows before the large download.
  const vocabBytes = await fetchNext(vocab);
  return { manifest, vocab: vocabBytes, weights: await fetchNext(weights) };
}

async function fetchFile(
  url: string,
  expected: ModelFile,
  onProgress: (loaded: number) => void,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const response = await request(url, signal);
  const bytes = new Uint8Array(expected.bytes);
  let loaded = 0;
  try {
    const reader = response.body?.getReader();
    for (let chunk = await reader?.read(); chunk?.value !== undefined; chunk = await reader?.read()) {
      if (loaded + chunk.value.length > bytes.length) {
        await reader?.cancel();
        throw new BlipError("integrity", `${url}: longer than the ${bytes.length} bytes of the manifest`);
      }
      bytes.set(chunk.value, loaded);
      loaded += chunk.value.length;
      onProgress(loaded);
    }
  } catch (error) {
    throw downloadError(url, error, signal);
  }
  if (loaded !== bytes.length) {
    throw new BlipError("integrity", `${url}: ended after ${loaded} bytes, the manifest says ${bytes.length}`);
  }
  const digest = await sha256(bytes, url);
  if (digest !== expected.sha256) {
    throw new BlipError("integrity", `${url}: SHA-256 is ${digest}, the manifest says ${expected.sha256}`);
  }
  return bytes;
}

async function request(url: string, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    throw downloadError(url, error, signal);
  }
  if (!response.ok) throw new BlipError("download-failed", `${url}: HTTP status ${response.status}`);
  return response;
}

async function readText(response: Response, url: string, signal: AbortSignal): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw downloadError(url, error, signal);
  }
}

function downloadError(url: string, error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted || error instanceof BlipError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new BlipError("download-failed", `${url}: ${message}`, { cause: error });
}

async function sha256(bytes: Uint8Array<ArrayBuffer>, url: string): Promise<string> {
  // Absent on plain http other than localhost; unverified weights are not loaded.
  if (globalThis.crypto?.subtle === undefined) {
    throw new BlipError("integrity", `${url}: cannot be verified outside a secure context; serve the page over https or localhost`);
  }
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
