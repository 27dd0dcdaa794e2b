/**
 * Downloads a model: the manifest, then files as streams of small pieces.
 *
 * Nothing is verified here but sizes that must not be exceeded: the engine checks every byte before it
 * uses it.
 */

import { type Manifest, type ModelFile, parseManifest } from "./manifest.js";
import { BlipError, type Progress } from "./protocol.js";

/** The most bytes that are handed over at a time: what a copy of them in the engine's memory may take. */
const PIECE = 1 << 20;

/** A model that is being downloaded. */
export interface RemoteModel {
  readonly manifest: Manifest;
  /** The vocabulary as it came. */
  readonly vocab: Uint8Array;
  /** Hands the weights to `push`, in order; a second call downloads them again. What `push` throws ends it. */
  pourWeights(push: (piece: Uint8Array) => void): Promise<void>;
}

/**
 * Fetches manifest and vocabulary of the model at `manifestUrl`, and asks for its weights.
 *
 * @throws BlipError `download-failed`, `integrity` or `bad-config`.
 */
export async function openModel(
  manifestUrl: string,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<RemoteModel> {
  const response = await request(manifestUrl, signal);
  const manifest = parseManifest(await readText(response, manifestUrl, signal), manifestUrl);
  const { weights, vocab } = manifest.files;
  const total = weights.bytes + vocab.bytes;
  const pour = (file: ModelFile, body: Response, before: number, push: (piece: Uint8Array) => void): Promise<void> => {
    const report = (loaded: number): void => {
      onProgress({ phase: "download", file: file.path, loaded: before + loaded, total });
    };
    return readPieces(address(file), body, push, report, signal);
  };
  const address = (file: ModelFile): string => new URL(file.path, manifestUrl).href;

  // The small file first: a broken deployment shows before the large download.
  const words = new Uint8Array(vocab.bytes);
  let filled = 0;
  await pour(vocab, await request(address(vocab), signal), 0, (piece) => {
    if (filled + piece.length > words.length) {
      throw new BlipError("integrity", `${address(vocab)}: longer than the ${words.length} bytes of the manifest`);
    }
    words.set(piece, filled);
    filled += piece.length;
  });

  // Asked for at once, read when an engine is there to take it.
  let asked: Promise<Response> | undefined = request(address(weights), signal);
  asked.catch(() => {});
  return {
    manifest,
    vocab: words.subarray(0, filled),
    pourWeights: async (push) => {
      const body = asked ?? request(address(weights), signal);
      asked = undefined;
      await pour(weights, await body, vocab.bytes, push);
    },
  };
}

async function readPieces(
  url: string,
  response: Response,
  push: (piece: Uint8Array) => void,
  onProgress: (loaded: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const reader = response.body?.getReader();
  const next = async (): Promise<Uint8Array | undefined> => {
    try {
      return (await reader?.read())?.value;
    } catch (error) {
      throw downloadError(url, error, signal);
    }
  };
  let loaded = 0;
  try {
    for (let chunk = await next(); chunk !== undefined; chunk = await next()) {
      for (let at = 0; at < chunk.length; at += PIECE) push(chunk.subarray(at, at + PIECE));
      loaded += chunk.length;
      onProgress(loaded);
    }
  } catch (error) {
    // The rest of the file is of no use; whether the connection can be told so does not matter.
    void reader?.cancel().catch(() => {});
    throw error;
  }
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
