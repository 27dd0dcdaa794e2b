/**
 * Reads files of other machines: by ranges, over connections that break, from servers that are busy.
 *
 * A range of the form used here and no other header keeps requests to other origins free of preflights.
 * That is also why no `If-Range` is sent: what was put together is checked by its digest.
 */

import { BlipError } from "./protocol.js";

/** How patient a download is. */
export interface Patience {
  /** Attempts after the first one that bring nothing. */
  readonly retries: number;
  /** Milliseconds before the first of them, on average; each later wait is three times as long. */
  readonly delay: number;
  /** Milliseconds without a byte after which a connection counts as broken. */
  readonly stall: number;
}

/** The patience of downloads that have no other way. */
export const PATIENT: Patience = { retries: 3, delay: 400, stall: 30_000 };

/** The patience where something in the cache can stand in. */
export const HASTY: Patience = { retries: 0, delay: 0, stall: 5_000 };

/** A file that could not be read; `transient` when another attempt may succeed. */
export class DownloadError extends BlipError {
  readonly transient: boolean;
  /** What the server asked to wait, in milliseconds. */
  readonly wait: number | undefined;

  constructor(message: string, { transient = false, wait, cause }: { transient?: boolean; wait?: number; cause?: unknown } = {}) {
    super("download-failed", message, { cause });
    this.transient = transient;
    this.wait = wait;
  }
}

/** How a file is asked for. */
export interface DownloadOptions {
  readonly signal: AbortSignal;
  readonly patience?: Patience;
  /** What the browser's own HTTP cache may do. */
  readonly httpCache?: RequestCache;
}

/** What counts as progress: an attempt that brought so many bytes does not use up patience. */
const PROGRESS = 1 << 18;
/** The longest wait that a server may ask for, in milliseconds. */
const WAIT_LIMIT = 60_000;
const TRANSIENT = [408, 425, 429, 500, 502, 503, 504];

/**
 * The bytes `start..end` of a file of `total` bytes, in pieces of any size.
 *
 * A connection that breaks is continued where it broke; a server that knows no ranges is read from the
 * beginning and what is not wanted is passed over.
 *
 * @throws DownloadError, or BlipError `integrity` for a file of another length.
 */
export async function* readRange(
  url: string,
  [start, end, total]: readonly [number, number, number],
  options: DownloadOptions,
): AsyncGenerator<Uint8Array, void, void> {
  const { signal, patience = PATIENT } = options;
  let at = start;
  let lastAttempt = start;
  let ended: number | undefined;
  for (let attempt = 0; at < end; ) {
    try {
      const connection = await connect(url, [at, end, total], options);
      try {
        for await (const piece of connection.pieces()) {
          at += piece.length;
          yield piece;
        }
      } finally {
        connection.close();
      }
      if (at >= end) return;
      // Once this may be a connection that broke without a trace, not twice at the same byte.
      if (ended === at) throw new BlipError("integrity", `${url}: ends after ${at} bytes, expected ${total}`);
      ended = at;
      throw new DownloadError(`${url}: the connection ended after ${at} of ${total} bytes`, { transient: true });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof DownloadError) || !error.transient) throw error;
      if (at - lastAttempt >= PROGRESS) attempt = 0;
      lastAttempt = at;
      if (attempt++ >= patience.retries) throw error;
      await pause(error.wait ?? patience.delay * 3 ** (attempt - 1) * (0.5 + Math.random()), signal);
    }
  }
}

/**
 * A small file as a whole.
 *
 * @throws DownloadError, or BlipError `integrity` when it is longer than `limit` bytes.
 */
export async function readFile(url: string, limit: number, options: DownloadOptions): Promise<Uint8Array> {
  const { signal, patience = PATIENT } = options;
  for (let attempt = 0; ; ) {
    try {
      const connection = await connect(url, undefined, options);
      const pieces: Uint8Array[] = [];
      let length = 0;
      try {
        for await (const piece of connection.pieces()) {
          pieces.push(piece);
          length += piece.length;
          if (length > limit) throw new BlipError("integrity", `${url}: longer than the ${limit} bytes that it may have`);
        }
      } finally {
        connection.close();
      }
      return join(pieces, length);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof DownloadError) || !error.transient || attempt++ >= patience.retries) throw error;
      await pause(error.wait ?? patience.delay * 3 ** (attempt - 1) * (0.5 + Math.random()), signal);
    }
  }
}

/** Pieces of `length` bytes in all, one after the other. */
export function join(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** One answer of a server. */
interface Connection {
  /** What was asked for and nothing before or after it, until it ends or breaks. */
  pieces(): AsyncGenerator<Uint8Array, void, void>;
  close(): void;
}

async function connect(
  url: string,
  range: readonly [number, number, number] | undefined,
  { signal, patience = PATIENT, httpCache = "default" }: DownloadOptions,
): Promise<Connection> {
  signal.throwIfAborted();
  const [start, end, total] = range ?? [0, Infinity, Infinity];
  // The signal of the caller, and that of a clock which runs only while the server is waited for.
  const attempt = new AbortController();
  const onAbort = (): void => attempt.abort(signal.reason);
  signal.addEventListener("abort", onAbort);
  const close = (): void => {
    signal.removeEventListener("abort", onAbort);
    attempt.abort();
  };
  let stalled = false;
  const waited = async <T>(promise: Promise<T>): Promise<T> => {
    const clock = setTimeout(() => {
      stalled = true;
      attempt.abort();
    }, patience.stall);
    try {
      return await promise;
    } catch (error) {
      signal.throwIfAborted();
      const message = stalled ? `nothing came for ${patience.stall / 1000} s` : text(error);
      throw new DownloadError(`${url}: ${message}`, { transient: true, cause: error });
    } finally {
      clearTimeout(clock);
    }
  };
  try {
    const whole = start === 0 && end === total;
    const headers = whole || range === undefined ? {} : { range: `bytes=${start}-${end === total ? "" : end - 1}` };
    const response = await waited(fetch(url, { signal: attempt.signal, headers, cache: httpCache }));
    if (response.status === 416) throw new BlipError("integrity", `${url}: has no byte ${start}, expected ${total} bytes`);
    if (!response.ok) throw refused(url, response);
    const skip = response.status === 206 ? start - checkedStart(url, response, start, total) : start;
    return { pieces: () => pieces(response, skip, end - start, waited), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The body without its first `skip` bytes, at most `length` bytes long. */
async function* pieces(
  response: Response,
  skip: number,
  length: number,
  waited: <T>(promise: Promise<T>) => Promise<T>,
): AsyncGenerator<Uint8Array, void, void> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  let left = length;
  while (left > 0) {
    const { done, value } = await waited(reader.read());
    if (done) return;
    const piece = value.subarray(Math.min(skip, value.length)).subarray(0, left);
    skip -= Math.min(skip, value.length);
    left -= piece.length;
    if (piece.length > 0) yield piece;
  }
}

/** Where a partial answer begins; other origins may hide it, and then it is what was asked for. */
function checkedStart(url: string, response: Response, start: number, total: number): number {
  const [, first, length] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "") ?? [];
  if (first === undefined || length === undefined) return start;
  if (length !== "*" && Number(length) !== total) {
    throw new BlipError("integrity", `${url}: has ${length} bytes, expected ${total}`);
  }
  // Bytes that are missing at the front cannot be made up.
  if (Number(first) > start) throw new DownloadError(`${url}: the answer begins at byte ${first}, asked for ${start}`);
  return Number(first);
}

function refused(url: string, response: Response): DownloadError {
  const after = response.headers.get("retry-after");
  const wait = after === null ? NaN : /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.now();
  const transient = TRANSIENT.includes(response.status) && !(wait > WAIT_LIMIT);
  const asked = wait > WAIT_LIMIT ? `, to be tried again in ${Math.round(wait / 1000)} s` : "";
  return new DownloadError(`${url}: HTTP status ${response.status}${asked}`, {
    transient,
    ...(Number.isNaN(wait) ? {} : { wait: Math.max(0, wait) }),
  });
}

/** Waits, and not a moment longer than `signal` allows. */
async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const clock = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
    function done(): void {
      clearTimeout(clock);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
  signal.throwIfAborted();
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
