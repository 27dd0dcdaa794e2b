/** Stand-ins for the tests: an engine that is driven by hand, the files of a model, a worker without a thread. */

import { createHash } from "node:crypto";
import { EngineHost } from "../dist/host.js";

const encoder = new TextEncoder();
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** An error as the wasm rejects with: a plain `Error` with a `code`. */
export function coded(code, message) {
  return Object.assign(new Error(message), { code });
}

/** The trap of a Rust panic. */
export function trap() {
  return new WebAssembly.RuntimeError("unreachable");
}

/** The JSON of a self-test of which the checks named in `wrong` failed. */
export function selfTest(...wrong) {
  const checks = ["matrix product", "attention"].map((name) => {
    return { name, format: "q8", error: 0.001, allowed: 0.01, ok: !wrong.includes(name) };
  });
  return JSON.stringify({ device: "webgpu", ok: wrong.length === 0, checks });
}

/**
 * An engine whose captions are the words of `words`, one a turn of the event loop.
 * `overrides` replaces any method; `log` records what was called.
 */
export function fakeModule(overrides = {}, log = []) {
  const generate = async (label, optionsJson, onProgress) => {
    log.push(`start ${label} ${optionsJson}`);
    const words = ["a", "red", "apple"];
    for (let index = 0; index < words.length; index++) {
      await new Promise((resolve) => setTimeout(resolve));
      if (!onProgress(words.slice(0, index + 1).join(" "), index)) {
        log.push(`abort ${label}`);
        throw coded("aborted", "the call was cancelled");
      }
    }
    log.push(`end ${label}`);
    const text = words.join(" ");
    return JSON.stringify({ text, captions: [{ text, logProb: -1, tokens: [1, 2] }], ms: { encode: 1, ground: 1, caption: 2, tokens: 3 } });
  };
  const engine = {
    adapter: () => JSON.stringify({ vendor: "cpu", architecture: "", device: "", description: "", isFallbackAdapter: false, features: [] }),
    beginLoad: () => log.push("begin"),
    push: (bytes) => log.push(`push ${bytes.length}`),
    finishLoad: async (vocab) => void log.push(`finish ${new TextDecoder().decode(vocab)}`),
    warmUp: async (onProgress) => {
      onProgress(1, 2);
      onProgress(2, 2);
      return 7;
    },
    selfTest: async () => selfTest(),
    caption: (bytes, options, onProgress) => generate(`bytes:${bytes.length}`, options, onProgress),
    captionPixels: (rgba, width, height, options, onProgress) => generate(`pixels:${width}x${height}`, options, onProgress),
    free: () => log.push("free"),
    ...overrides,
  };
  const open = overrides.open ?? (async () => {});
  return {
    Engine: {
      open: async (device) => {
        log.push(`open ${device}`);
        await open(device);
        return engine;
      },
    },
    version: () => "0.0.0",
  };
}

/** Starts a fake module without any wasm. */
export const starting = (module) => async () => module;

/** Addresses and contents of a small valid model. */
export function modelFiles() {
  const weights = encoder.encode("weights");
  const vocab = encoder.encode("vocab");
  const manifest = {
    formatVersion: 2,
    id: "fake",
    tasks: ["caption"],
    config: {},
    quantisation: { vision: "q8", text: "q4" },
    licence: "MIT",
    knows: { nouns: ["apple"], colours: ["red"] },
    files: {
      weights: { path: "weights.bin", bytes: weights.length, sha256: sha256(weights) },
      vocab: { path: "vocab.txt", bytes: vocab.length, sha256: sha256(vocab) },
    },
  };
  return { manifest, weights, vocab };
}

/** Replaces `fetch` by one that serves `files` (name of the last path segment → bytes or text); returns how to restore it. */
export function serve(files) {
  const original = globalThis.fetch;
  globalThis.fetch = async (url, { signal } = {}) => {
    signal?.throwIfAborted();
    const name = String(url).split("/").at(-1);
    return name in files ? new Response(files[name]) : new Response("not here", { status: 404 });
  };
  return () => (globalThis.fetch = original);
}

/** `serve` for `modelFiles()`. */
export function serveModel({ manifest, weights, vocab } = modelFiles()) {
  return serve({ "blip.json": JSON.stringify(manifest), "weights.bin": weights, "vocab.txt": vocab });
}

/** A worker in name only: the host runs here, messages are cloned and arrive later, as they would. */
export class FakeWorker {
  constructor(module) {
    this.terminated = false;
    const deliver = (message) =>
      setTimeout(() => this.terminated || this.onmessage?.({ data: structuredClone(message) }));
    this.host = new EngineHost(deliver, starting(module));
  }
  postMessage(message) {
    const copy = structuredClone(message);
    setTimeout(() => this.terminated || this.host.receive(copy));
  }
  terminate() {
    this.terminated = true;
  }
}
