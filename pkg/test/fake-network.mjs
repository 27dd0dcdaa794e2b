/** Stand-ins for what a download meets: a cache that can be full or damaged, and servers with faults. */

import { createHash } from "node:crypto";

export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** No waiting between attempts, and little for bytes that never come. */
export const IMPATIENT = { retries: 3, delay: 1, stall: 200 };

/** Bytes that are different everywhere, the same every time. */
export function noise(length, seed = 1) {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

/** The Cache API, in memory; `room` bytes fit. */
export class FakeCaches {
  constructor(room = Infinity) {
    this.room = room;
    this.caches = new Map();
    this.reads = 0;
  }
  async open(name) {
    if (!this.caches.has(name)) this.caches.set(name, new FakeCache(this));
    return this.caches.get(name);
  }
  async delete(name) {
    return this.caches.delete(name);
  }
  /** The stored addresses that match. */
  keys(pattern = /./) {
    return [...this.caches.values()].flatMap(({ entries }) => [...entries.keys()]).filter((url) => pattern.test(url));
  }
  /** Changes one byte of what is stored under addresses that match. */
  damage(pattern) {
    for (const { entries } of this.caches.values()) {
      for (const [url, { bytes }] of entries) if (pattern.test(url)) bytes[bytes.length >> 1] ^= 1;
    }
  }
  remove(pattern) {
    for (const { entries } of this.caches.values()) {
      for (const url of entries.keys()) if (pattern.test(url)) entries.delete(url);
    }
  }
  get bytes() {
    return [...this.caches.values()].flatMap(({ entries }) => [...entries.values()]).reduce((sum, { bytes }) => sum + bytes.length, 0);
  }
}

class FakeCache {
  constructor(owner) {
    this.owner = owner;
    this.entries = new Map();
  }
  async put(url, response) {
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (this.owner.bytes + bytes.length > this.owner.room) throw new DOMException("the quota has been exceeded", "QuotaExceededError");
    this.entries.set(String(url), { bytes, headers: [...response.headers] });
  }
  async match(url) {
    const found = this.entries.get(String(url.url ?? url));
    this.owner.reads += found === undefined ? 0 : 1;
    return found && new Response(found.bytes.slice(), { headers: found.headers });
  }
  async matchAll() {
    return Promise.all([...this.entries.keys()].map((url) => this.match(url)));
  }
  async keys() {
    return [...this.entries.keys()].map((url) => ({ url }));
  }
  async delete(url) {
    return this.entries.delete(String(url.url ?? url));
  }
}

/**
 * Servers: `files` by address. `faults` are functions of a request, the first that matches an address is
 * used up by it; they answer instead, or change the answer. `log` has every request with its range and
 * the bytes that were given out.
 */
export class FakeNetwork {
  constructor(files = {}) {
    this.files = files;
    this.faults = [];
    this.log = [];
    this.ranges = true;
    this.piece = 1 << 16;
  }
  /** The next `times` requests for addresses that match meet this fault. */
  fault(pattern, answer, times = 1) {
    for (let time = 0; time < times; time++) this.faults.push({ pattern, answer });
  }
  /** Bytes that were given out for addresses that match. */
  served(pattern) {
    return this.requests(pattern).reduce((sum, { bytes }) => sum + bytes, 0);
  }
  requests(pattern) {
    return this.log.filter(({ url }) => pattern.test(url));
  }
  install() {
    const original = globalThis.fetch;
    globalThis.fetch = (url, init) => this.fetch(String(url), init);
    return () => (globalThis.fetch = original);
  }
  async fetch(url, { signal, headers = {}, cache } = {}) {
    await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    const range = headers.range;
    const entry = { url, range, cache, bytes: 0 };
    this.log.push(entry);
    const at = this.faults.findIndex(({ pattern }) => pattern.test(url));
    const fault = at < 0 ? {} : this.faults.splice(at, 1)[0].answer;
    if (fault.error) throw fault.error;
    if (fault.status) return new Response("no", { status: fault.status, headers: fault.headers });
    if (fault.never) return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    let bytes = typeof this.files[url] === "string" ? new TextEncoder().encode(this.files[url]) : this.files[url];
    if (bytes === undefined) return new Response("not here", { status: 404 });
    if (fault.change) fault.change((bytes = bytes.slice()));
    const total = bytes.length;
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
    const partial = first !== undefined && this.ranges && !fault.noRange;
    if (partial && Number(first) >= total) return new Response("no", { status: 416 });
    const [start, end] = partial ? [Number(first), last === "" ? total : Math.min(Number(last) + 1, total)] : [0, total];
    return new Response(this.body(bytes.subarray(start, end), entry, fault, signal), {
      status: partial ? 206 : 200,
      headers: partial && !fault.hidden ? { "content-range": `bytes ${start}-${end - 1}/${total}` } : {},
    });
  }
  body(bytes, entry, { cut, stall, end }, signal) {
    let at = 0;
    return new ReadableStream(
      {
        start: (controller) => signal?.addEventListener("abort", () => controller.error(signal.reason)),
        pull: async (controller) => {
          await new Promise((resolve) => setTimeout(resolve));
          if (signal?.aborted) return;
          if (cut !== undefined && at >= cut) return controller.error(new TypeError("network error"));
          if (stall !== undefined && at >= stall) return new Promise(() => {});
          if (at >= bytes.length || (end !== undefined && at >= end)) return controller.close();
          const limit = Math.min(cut ?? Infinity, stall ?? Infinity, end ?? Infinity, bytes.length);
          const piece = bytes.slice(at, Math.min(at + this.piece, limit));
          at += piece.length;
          entry.bytes += piece.length;
          controller.enqueue(piece);
        },
      },
      { highWaterMark: 0 },
    );
  }
}

/** Web Locks of one name at a time. */
export class FakeLocks {
  constructor() {
    this.tails = new Map();
    this.held = [];
  }
  async request(name, { signal } = {}, work) {
    const before = this.tails.get(name) ?? Promise.resolve();
    let free;
    this.tails.set(name, before.then(() => new Promise((resolve) => (free = resolve))));
    await before;
    await Promise.resolve();
    try {
      signal?.throwIfAborted();
      this.held.push({ name });
      return await work();
    } finally {
      this.held = this.held.filter((lock) => lock.name !== name);
      free();
    }
  }
  async query() {
    return { held: this.held };
  }
}
