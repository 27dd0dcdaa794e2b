/** Stand-ins for the tests: an engine that is driven by hand, the files of a model, a worker without a thread. */

import { createHash } from "node:crypto";
import { EngineHost } from "../dist/host.js";

const encoder = new TextEncoder();
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const turn = () => new Promise((resolve) => setTimeout(resolve));

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

/** What images are called in logs: their sizes. */
const label = (image) => (image instanceof Uint8Array ? `bytes:${image.length}` : `pixels:${image.width}x${image.height}`);

/**
 * An engine whose captions are the words of `words`, one a turn of the event loop, and whose other answers
 * name what they are about. `log` records what was called.
 */
export class FakeEngine {
  constructor(log) {
    this.log = log;
    this.pictures = new Map();
    this.next = 1;
    this.freed = false;
    /** Throws it at the next call, and at all after it. */
    this.fault = undefined;
  }
  adapter() {
    return JSON.stringify({ vendor: "cpu", architecture: "", device: "", description: "", isFallbackAdapter: false, features: [] });
  }
  onLost(listener) {
    /** Loses the device, as a browser tells of it. */
    this.lose = listener;
  }
  beginLoad() {
    this.log.push("begin");
  }
  push(bytes) {
    this.log.push(`push ${bytes.length}`);
  }
  async finishLoad(vocab, tasks) {
    this.log.push(`finish ${new TextDecoder().decode(vocab)}${tasks === undefined ? "" : ` ${tasks}`}`);
  }
  loaded() {
    return JSON.stringify({ tasks: ["caption"], parts: [], towers: 1, fingerprint: "print", width: 4 });
  }
  async warmUp(onProgress) {
    onProgress(1, 2);
    onProgress(2, 2);
    return 7;
  }
  async selfTest() {
    return selfTest();
  }
  async encode(images, options) {
    this.#check();
    if (images.length > 8 && !JSON.parse(options).video) throw coded("bad-option", "too many images");
    this.log.push(`encode ${images.map(label).join(" ")} ${options}`);
    await turn();
    this.#check();
    // A file that begins with 255 is none.
    if (images.some((image) => image[0] === 255)) throw coded("bad-image", "no known format");
    const pictures = JSON.parse(options).video ? [`video of ${images.map(label).join(" ")}`] : images.map(label);
    return Uint32Array.from(pictures, (picture) => {
      this.pictures.set(this.next, picture);
      return this.next++;
    });
  }
  release(handle) {
    if (!this.pictures.delete(handle)) throw coded("internal", `handle ${handle} is released twice`);
  }
  async run(json, handles, onEvent) {
    this.#check();
    const { task, ...request } = JSON.parse(json);
    const pictures = [...handles].map((handle) => {
      if (!this.pictures.has(handle)) throw coded("bad-option", `there is no picture ${handle}`);
      return this.pictures.get(handle);
    });
    this.log.push(`run ${task} ${pictures.join(" + ")}`);
    const answer = await this.answer(task, request, pictures, onEvent);
    this.#check();
    this.log.push(`end ${task} ${pictures.join(" + ")}`);
    return [JSON.stringify({ results: answer.results }), ...(answer.floats ?? [])];
  }
  async answer(task, request, pictures, onEvent) {
    if (task === "embed") {
      const rows = request.kind === "text" ? request.texts : pictures.flatMap((picture) => request.texts?.map(() => picture) ?? [picture]);
      await turn();
      return { results: rows.map(() => ({ shape: [1] })), floats: rows.map((row) => Float32Array.of(row.length)) };
    }
    if (task === "nlvr2") return { results: [{ probability: 0.75, logits: [0, 1], answer: true, pictures }] };
    const results = [];
    for (const picture of pictures) results.push(await this.one(task, request, picture, onEvent));
    const floats = task === "explain" ? pictures.flatMap(() => [Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6), Float32Array.of(7, 8)]) : [];
    return { results, floats };
  }
  async one(task, request, picture, onEvent) {
    if (task === "caption" || (task === "ask" && request.answers === undefined)) {
      const words = ["a", "red", "apple"];
      for (let index = 0; index < words.length; index++) {
        await turn();
        this.#check();
        if (!onEvent(words.slice(0, index + 1).join(" "), index, 0)) {
          this.log.push(`abort ${task} ${picture}`);
          throw coded("aborted", "the call was cancelled");
        }
      }
      const text = words.join(" ");
      if (task === "ask") return { text, answers: [{ text, logProb: -1 }], question: request.question, picture };
      return { text, captions: [{ text, logProb: -1, tokens: [1, 2] }], ms: { encode: 1, ground: 1, caption: 2, tokens: 3 }, picture, request };
    }
    await turn();
    if (!onEvent(undefined, 1, 2)) throw coded("aborted", "the call was cancelled");
    if (task === "ask") return { text: request.answers[0], answers: request.answers.map((text) => ({ text, logProb: -1, score: 1, probability: 0.5 })) };
    if (task === "match") return request.texts.map((text) => ({ text, itc: 0.5, score: 0.5, picture }));
    if (task === "classify") return request.labels.map((label) => ({ label, probability: 1 / request.labels.length, score: 0, picture }));
    if (task === "dialogue") return request.candidates.map((text) => ({ text, probability: 1, logit: 0, picture }));
    const tokens = [{ text: "[ENC]", id: 1, word: null }, { text: "cat", id: 2, word: 0 }];
    return { method: "m", layer: 1, grid: [1, 2], probability: 0.5, tokens, words: [{ text: "cat", tokens: [1] }] };
  }
  memory() {
    return JSON.stringify({ gpuBytes: 0, gpuReserved: 0, pictures: this.pictures.size, wasmBytes: 65536 });
  }
  free() {
    this.freed = true;
    this.log.push("free");
  }
  #check() {
    if (this.freed) throw coded("internal", "the engine was freed");
    if (this.fault !== undefined) throw this.fault;
  }
}

/** A module of fake engines. `overrides` replaces methods of all of them; `engines` collects them. */
export function fakeModule(overrides = {}, log = [], engines = []) {
  const { open = async () => {}, ...methods } = overrides;
  return {
    Engine: {
      open: async (device) => {
        log.push(`open ${device}`);
        await open(device);
        const engine = Object.assign(new FakeEngine(log), methods);
        engines.push(engine);
        return engine;
      },
    },
    version: () => "0.0.0",
  };
}

/** Starts a fake module without any wasm. */
export const starting = (module) => async () => module;

/** Addresses and contents of a small valid model. */
export function modelFiles(changes = {}) {
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
    ...changes,
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
    const deliver = (message) => {
      const copy = structuredClone(message);
      setTimeout(() => this.terminated || this.onmessage?.({ data: copy }));
    };
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
