import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test, { afterEach } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { modelCache } from "../dist/cache.js";
import { estimate, openModel } from "../dist/store.js";
import { FakeCaches, FakeLocks, FakeNetwork, IMPATIENT, noise, sha256 } from "./fake-network.mjs";

const MIB = 1 << 20;
const CHUNK = 4 * MIB;
const HUB = "https://hub.test";
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const TENSOR = 3 * MIB;
const API = `${HUB}/api/models/owner/name/revision/main?blobs=true`;
const undo = [];
afterEach(() => undo.splice(0).forEach((restore) => restore()));

function replace(name, value) {
  const original = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { configurable: true, writable: true, value });
  undo.push(() => (original ? Object.defineProperty(globalThis, name, original) : delete globalThis[name]));
}

const coded = (code, message) => Object.assign(new Error(message), { code });

/** What the fake conversion makes of a file: a head, and every second byte of every tensor. */
function containerOf(input) {
  return Buffer.concat([Buffer.from("container"), halved(input, 0)]);
}

/** The bytes at even places, of which the first is at `start`. */
function halved(bytes, start) {
  const out = Buffer.alloc((bytes.length + 1 - (start % 2)) >> 1);
  for (let from = start % 2, to = 0; from < bytes.length; from += 2) out[to++] = bytes[from];
  return out;
}

/** How many modules were started to convert. */
let modules = 0;

/** States behind checkpoints: the bytes of a checkpoint are only their number. */
const saved = [];

/**
 * A conversion with the order of calls of the real one: it must be told the first eight bytes, then eight
 * of the middle; what it writes comes a tensor late; what is put aside is the state at the last tensor.
 * A file that begins with `untied` fails at its end, unless it is converted as such.
 */
class FakeConversion {
  static log = [];
  static live = 0;
  constructor(file, total, config, options) {
    assert.equal(JSON.parse(config).model_type, "blip");
    Object.assign(this, { file, total, options: JSON.parse(options), given: 0, failed: false });
    this.input = createHash("sha256");
    Object.assign(this, { at: 0, rest: [], restBytes: 0, written: Buffer.alloc(0) });
    this.mark();
    FakeConversion.live++;
    FakeConversion.log.push(`new ${file} ${total} ${this.options.untied ? "untied" : "tied"}`);
  }
  wants() {
    return [new Float64Array([0, 8]), new Float64Array([this.total - 8, this.total])][this.given];
  }
  give(bytes) {
    assert.equal(bytes.length, 8);
    this.given++;
  }
  outputBytes() {
    return "container".length + Math.ceil(this.total / 2);
  }
  push(bytes) {
    assert.equal(this.given, 2);
    assert.ok(bytes.length <= MIB);
    const out = [];
    if (this.written.length === 0) this.write(Buffer.from("container"), out);
    this.input.update(bytes);
    this.rest.push(Buffer.from(bytes));
    this.at += bytes.length;
    this.restBytes += bytes.length;
    while (this.restBytes >= TENSOR || (this.at === this.total && this.restBytes > 0)) {
      const whole = Buffer.concat(this.rest);
      const tensor = whole.subarray(0, TENSOR);
      const begins = this.at - this.restBytes;
      this.rest = [whole.subarray(tensor.length)];
      this.restBytes -= tensor.length;
      this.write(halved(tensor, begins), out);
      if (this.restBytes === 0) this.mark();
    }
    if (this.at === this.total && this.options.source.file.startsWith("untied") && !this.options.untied) {
      this.failed = true;
      throw coded("weights-format", "the head is not tied");
    }
    return new Uint8Array(Buffer.concat(out));
  }
  write(bytes, out) {
    this.written = Buffer.concat([this.written, bytes]);
    out.push(bytes);
  }
  mark() {
    this.resting = { at: this.at, written: this.written, input: this.input.copy() };
  }
  position() {
    return this.at;
  }
  isUntied() {
    return this.failed;
  }
  checkpoint() {
    const { file, total, options, resting } = this;
    return new Uint8Array([saved.push({ file, total, options, resting }) - 1]);
  }
  static resume(bytes) {
    const state = saved[bytes[0]];
    if (state === undefined) throw coded("weights-format", "another version");
    const conversion = new FakeConversion(state.file, state.total, '{"model_type":"blip"}', JSON.stringify(state.options));
    FakeConversion.log[FakeConversion.log.length - 1] = `resume at ${state.resting.at}`;
    Object.assign(conversion, { given: 2, at: state.resting.at, written: state.resting.written, input: state.resting.input.copy() });
    conversion.mark();
    return conversion;
  }
  resumeInput() {
    return this.resting.at;
  }
  resumeOutput() {
    return this.resting.written.length;
  }
  finish(vocab) {
    assert.equal(this.at, this.total);
    const { id, licence, quantisation, source } = this.options;
    const digests = [];
    for (let at = 0; at < this.written.length; at += CHUNK) digests.push(sha256(this.written.subarray(at, at + CHUNK)));
    const inputSha256 = this.input.copy().digest("hex");
    const manifest = {
      formatVersion: 2,
      id,
      tasks: ["caption"],
      config: {},
      quantisation,
      licence,
      files: {
        weights: { path: "model.safetensors", bytes: this.written.length, sha256: sha256(this.written), chunks: { size: CHUNK, sha256: digests } },
        vocab: { path: "vocab.txt", bytes: vocab.length, sha256: sha256(vocab) },
      },
      source: { ...source, sha256: inputSha256 },
    };
    return JSON.stringify({ inputSha256, manifest: JSON.stringify(manifest) });
  }
  free() {
    FakeConversion.live--;
  }
  static vocabulary(bytes, config) {
    assert.equal(JSON.parse(config).model_type, "blip");
    return new TextEncoder().encode(`${new TextDecoder().decode(bytes)}[DEC]\n[ENC]\n`);
  }
}

/** A hub with one repository, and a browser. */
function world({ bytes = noise(20 * MIB), file = "model.safetensors", caches = new FakeCaches(), digest = sha256(bytes), commit = COMMIT, lfs = true } = {}) {
  FakeConversion.log = [];
  const network = new FakeNetwork();
  network.piece = 1 << 18;
  publish(network, { bytes, file, digest, commit, lfs });
  undo.push(network.install());
  replace("caches", caches);
  replace("navigator", { locks: new FakeLocks(), userAgent: "" });
  return { network, caches, container: containerOf(bytes), bytes };
}

const SMALL = { "config.json": '{"model_type":"blip"}', "vocab.txt": "a\nb\n" };

/** What the hub says of a small file: git's name of it. */
function small(rfilename) {
  const { length } = SMALL[rfilename];
  return { rfilename, size: length, blobId: createHash("sha1").update(`blob ${length}\0${SMALL[rfilename]}`).digest("hex") };
}

function publish(network, { bytes, file, digest = sha256(bytes), commit, lfs = true }) {
  const siblings = [
    small("config.json"),
    small("vocab.txt"),
    { rfilename: "tf_model.h5", size: 1 },
    { rfilename: file, size: bytes.length, ...(lfs ? { lfs: { sha256: digest, size: bytes.length } } : {}) },
  ];
  network.files[API] = JSON.stringify({ sha: commit, siblings, cardData: { license: "bsd-3-clause" } });
  const at = `${HUB}/owner/name/resolve/${commit}`;
  Object.assign(network.files, { [`${at}/config.json`]: SMALL["config.json"], [`${at}/vocab.txt`]: SMALL["vocab.txt"], [`${at}/${file}`]: bytes });
}

const OPTIONS = { cache: "auto", dtype: { vision: "q8", text: "q4" }, signal: new AbortController().signal, patience: IMPATIENT };
const SOURCE = { kind: "hub", repo: "owner/name", endpoint: HUB };

async function load({ source = SOURCE, ...overrides } = {}) {
  const [steps, events] = [[], []];
  const options = {
    cache: "auto",
    dtype: { vision: "q8", text: "q4" },
    signal: new AbortController().signal,
    onProgress: (step) => steps.push(step),
    onEvent: (event) => events.push(event),
    patience: IMPATIENT,
    ...overrides,
    conversion: async () => ((modules += 1), overrides.conversion ?? FakeConversion),
  };
  const model = await openModel(source, options);
  const pour = async () => {
    const pieces = [];
    await model.pourWeights((piece) => pieces.push(piece.slice()));
    return Buffer.concat(pieces);
  };
  const weights = await pour();
  assert.equal(FakeConversion.live, 0, "conversions are freed");
  return { ...model, weights, pour, steps, events };
}

const WEIGHTS = /resolve\/\w+\/(model\.safetensors|\w*pytorch_model\.bin)/;

test("a repository is converted while it is downloaded, once", async () => {
  const { network, container, bytes, caches } = world();
  const model = await load();
  assert.ok(model.weights.equals(container));
  assert.equal(new TextDecoder().decode(model.vocab), "a\nb\n[DEC]\n[ENC]\n");
  const { source, licence, quantisation } = JSON.parse(model.manifest.json);
  assert.deepEqual(source, { repo: "owner/name", revision: COMMIT, file: "model.safetensors", sha256: sha256(bytes) });
  assert.deepEqual([licence, quantisation], ["BSD-3-Clause", { vision: "q8", text: "q4" }]);
  // The two ranges that are needed first, and the file.
  assert.equal(network.served(WEIGHTS), bytes.length + 16);
  assert.equal(model.fromCache, false);
  assert.ok(model.steps.every(({ total, fromCache }, index, all) => total === bytes.length && !fromCache && all[index].loaded > (all[index - 1]?.loaded ?? 0)));
  assert.equal(model.steps.at(-1).loaded, bytes.length);

  network.log = [];
  const second = await load();
  assert.ok(second.weights.equals(container));
  assert.equal(second.fromCache, true);
  assert.deepEqual(network.log.map(({ url }) => url), [API]);
  assert.equal(second.steps.at(-1).loaded, container.length + second.vocab.length);
  assert.deepEqual(caches.keys(/partial|\/-1$/), []);
  const [listed, ...others] = await modelCache.list();
  assert.deepEqual([listed.key, listed.id, listed.complete, listed.commit, others], [`${HUB}/owner/name@main q8/q4`, "owner/name", true, COMMIT, []]);
  assert.equal(listed.bytes, container.length + second.vocab.length);
});

test("a module is started for a conversion only, and not kept after it", async () => {
  world({ bytes: noise(5 * MIB) });
  let module;
  const start = async () => {
    const own = class extends FakeConversion {};
    module = new WeakRef(own);
    return own;
  };
  const options = { ...OPTIONS, onProgress() {}, onEvent() {}, conversion: start };
  const model = await openModel(SOURCE, options);
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  for (let round = 0; round < 5 && module.deref() !== undefined; round++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    collect();
  }
  assert.equal(module.deref(), undefined, "the module is still held");
  await model.pourWeights(() => {});
  modules = 0;
  await load();
  assert.equal(modules, 0, "what is in the cache needs none");
});

test("without a network a converted repository is used; a commit does not even ask", async () => {
  const { network, container } = world();
  await load();
  network.fault(/./, { error: new TypeError("offline") }, 100);
  assert.ok((await load({ patience: undefined })).weights.equals(container));
  network.faults = [];
  const answer = network.files[API];
  network.files[API] = "<!doctype html><title>Log in</title>";
  assert.ok((await load()).weights.equals(container), "a network answers with its own page");
  network.files[API] = answer;
  network.files[API.replace("main", COMMIT)] = network.files[API];
  await load({ source: { ...SOURCE, revision: COMMIT } });
  network.log = [];
  await load({ source: { ...SOURCE, revision: COMMIT } });
  assert.deepEqual(network.log, []);
});

test("a repository with a manifest was converted before: its files are taken as they are, later without a network", async () => {
  const { network } = world();
  const [weights, vocab] = [noise(5 * MIB, 3), Buffer.from("a\nb\n[DEC]\n[ENC]\n")];
  const manifest = JSON.stringify({
    formatVersion: 1,
    id: "ready",
    tasks: ["caption"],
    config: {},
    dtype: "f16",
    licence: "MIT",
    files: {
      weights: { path: "weights.safetensors", bytes: weights.length, sha256: sha256(weights) },
      vocab: { path: "words.txt", bytes: vocab.length, sha256: sha256(vocab) },
    },
  });
  const listing = JSON.parse(network.files[API]);
  listing.siblings.push(null, { rfilename: "blip.json", size: manifest.length });
  network.files[API] = JSON.stringify(listing);
  const at = `${HUB}/owner/name/resolve/main`;
  Object.assign(network.files, { [`${at}/blip.json`]: manifest, [`${at}/weights.safetensors`]: weights, [`${at}/words.txt`]: vocab });
  const model = await load();
  assert.ok(model.weights.equals(weights));
  assert.equal(model.manifest.id, "ready");
  assert.deepEqual(FakeConversion.log, []);
  network.fault(/./, { error: new TypeError("offline") }, 100);
  assert.ok((await load({ patience: undefined })).weights.equals(weights));
});

test("pytorch_model.bin is taken where there is no model.safetensors, which is preferred", async () => {
  const { network, container } = world({ file: "pytorch_model.bin" });
  assert.ok((await load()).weights.equals(container));
  assert.match(FakeConversion.log[0], /^new pytorch_model\.bin/);
  const both = JSON.parse(network.files[API]);
  both.siblings.push({ rfilename: "model.safetensors", size: MIB });
  network.files[API] = JSON.stringify({ ...both, sha: COMMIT.replace("0", "1") });
  await assert.rejects(load(), { code: "download-failed", message: /resolve\/1123.*404/ });
});

test("a new commit is converted anew, and the old one is deleted", async () => {
  const { network, caches } = world({ bytes: noise(9 * MIB) });
  await load();
  const commit = "f".repeat(40);
  const bytes = noise(9 * MIB, 5);
  publish(network, { bytes, file: "model.safetensors", commit });
  assert.ok((await load()).weights.equals(containerOf(bytes)));
  assert.ok(caches.keys(/chunk\/owner/).every((url) => url.includes(commit)));
  assert.deepEqual((await modelCache.list()).map(({ commit }) => commit), [commit]);
});

test("another precision is another model", async () => {
  const { network } = world({ bytes: noise(5 * MIB) });
  await load();
  network.log = [];
  const model = await load({ dtype: { vision: "f16", text: "f16" } });
  assert.deepEqual(model.manifest.quantisation, { vision: "f16", text: "f16" });
  assert.ok(network.served(WEIGHTS) > 5 * MIB);
  assert.equal((await modelCache.list()).length, 2);
});

test("a file that is not what the hub says is integrity and leaves nothing behind", async () => {
  const { caches, network, bytes } = world({ digest: "0".repeat(64) });
  await assert.rejects(load(), { code: "integrity", message: /model\.safetensors: has the SHA-256 [0-9a-f]{64}, the repository says 0{64}/ });
  assert.deepEqual(caches.keys(/model\/|chunk/), []);
  publish(network, { bytes, file: "model.safetensors", commit: COMMIT });
  assert.ok((await load()).weights.equals(containerOf(bytes)));
});

test("configuration and vocabulary are compared with the hub's digests, too", async () => {
  const flip = { change: (bytes) => (bytes[0] ^= 1) };
  for (const file of ["config.json", "vocab.txt"]) {
    const { network, container, caches } = world({ bytes: noise(5 * MIB) });
    network.fault(new RegExp(file), flip, 2);
    await assert.rejects(load(), { code: "integrity", message: new RegExp(`${file}: differs from the digest`) });
    assert.deepEqual(caches.keys(/model\/|chunk/), []);
    // Once may be the browser's own cache.
    network.log = [];
    network.fault(new RegExp(file), flip);
    assert.ok((await load()).weights.equals(container));
    assert.deepEqual(network.requests(new RegExp(file)).map(({ cache }) => cache), ["default", "reload"]);
  }
});

test("a small file that the hub keeps outside of git has a SHA-256; without any digest, or without means, it is taken", async () => {
  const { network, container } = world({ bytes: noise(5 * MIB) });
  const answer = JSON.parse(network.files[API]);
  const withVocabulary = (changes) => {
    const siblings = answer.siblings.map((file) => (file.rfilename === "vocab.txt" ? { ...file, ...changes } : file));
    network.files[API] = JSON.stringify({ ...answer, siblings });
  };
  withVocabulary({ blobId: "0".repeat(40), lfs: { sha256: sha256(Buffer.from(SMALL["vocab.txt"])), size: 4 } });
  assert.ok((await load({ cache: "none" })).weights.equals(container));
  withVocabulary({ blobId: "0".repeat(40) });
  await assert.rejects(load({ cache: "none" }), { code: "integrity" });
  withVocabulary({ blobId: undefined });
  assert.ok((await load({ cache: "none" })).weights.equals(container));
  withVocabulary({ blobId: "0".repeat(40) });
  replace("crypto", {});
  assert.ok((await load({ cache: "none" })).weights.equals(container));
});

test("a file without a digest of the hub's is converted all the same", async () => {
  const { container } = world({ bytes: noise(5 * MIB), lfs: false });
  assert.ok((await load()).weights.equals(container));
});

test("a connection that breaks is continued where it broke", async () => {
  const { network, bytes, container } = world();
  network.fault(WEIGHTS, {}, 2);
  network.fault(WEIGHTS, { cut: 7 * MIB });
  network.fault(WEIGHTS, { status: 429, headers: { "retry-after": "0" } });
  assert.ok((await load()).weights.equals(container));
  assert.equal(network.served(WEIGHTS), bytes.length + 16);
});

test("a cancelled conversion goes on later from its checkpoint, with the same result", async () => {
  const bytes = noise(48 * MIB);
  const { network, container, caches } = world({ bytes });
  const reason = new Error("enough");
  const controller = new AbortController();
  const onProgress = ({ loaded }) => loaded > 40 * MIB && controller.abort(reason);
  await assert.rejects(load({ signal: controller.signal, onProgress }), (error) => error === reason);
  assert.deepEqual(caches.keys(/model\//), []);
  const [partial] = await modelCache.list();
  assert.deepEqual([partial.id, partial.complete, partial.commit], ["owner/name", false, COMMIT]);
  const expected = await estimate(SOURCE, OPTIONS);
  assert.ok(expected.cachedBytes >= 32 * MIB && expected.cachedBytes + expected.downloadBytes === bytes.length);
  [network.log, FakeConversion.log] = [[], []];
  const model = await load();
  assert.ok(model.weights.equals(container));
  assert.match(FakeConversion.log[0], /^resume at \d+$/);
  const from = Number(FakeConversion.log[0].split(" ").at(-1));
  assert.ok(from >= 28 * MIB && from % TENSOR === 0);
  assert.equal(network.served(WEIGHTS), bytes.length - from);
  assert.deepEqual(caches.keys(/partial|\/-1$/), []);
});

test("a checkpoint that is damaged, of another version, or without its pieces begins anew", async () => {
  const bytes = noise(48 * MIB);
  const harm = {
    damaged: (caches) => caches.damage(/\/-1$/),
    "of another version": () => saved.splice(0),
    "without a piece": (caches) => caches.remove(/q4\/1$/),
  };
  for (const [name, spoil] of Object.entries(harm)) {
    const { container, caches } = world({ bytes });
    const controller = new AbortController();
    const onProgress = ({ loaded }) => loaded > 40 * MIB && controller.abort();
    await assert.rejects(load({ signal: controller.signal, onProgress }), { name: "AbortError" });
    spoil(caches);
    FakeConversion.log = [];
    assert.ok((await load()).weights.equals(container), name);
    assert.match(FakeConversion.log.at(-1), /^new/, name);
  }
});

test("a damaged piece of a converted model is converted again, alone", async () => {
  const { network, container, caches, bytes } = world();
  await load();
  caches.damage(/q4\/1$/);
  network.log = [];
  const model = await load();
  assert.ok(model.weights.equals(container));
  assert.deepEqual(model.events.map(({ type }) => type), ["refetched"]);
  assert.ok(network.served(WEIGHTS) < bytes.length);
  network.log = [];
  assert.ok((await load()).weights.equals(container));
  assert.equal(network.served(WEIGHTS), 0);
});

test("a damaged piece that cannot be made again is an error, and the model is gone after it is integrity", async () => {
  const { network, caches, container } = world();
  await load();
  caches.damage(/q4\/1$/);
  network.fault(WEIGHTS, { error: new TypeError("offline") }, 100);
  await assert.rejects(load(), { code: "download-failed" });
  network.faults = [];
  // A converter that makes something else of the file.
  const other = class extends FakeConversion {
    push(bytes) {
      return super.push(bytes).map((byte) => byte ^ 1);
    }
  };
  await assert.rejects(load({ conversion: other }), { code: "integrity" });
  FakeConversion.live = 0;
  assert.deepEqual(caches.keys(/model\//), []);
  assert.ok((await load()).weights.equals(container));
});

test("a head that is not tied is converted once more, as such", async () => {
  const { network, container } = world({ file: "pytorch_model.bin", bytes: noise(5 * MIB) });
  const untied = class extends FakeConversion {
    constructor(file, total, config, options) {
      const settings = JSON.parse(options);
      super(file, total, config, JSON.stringify({ ...settings, source: { ...settings.source, file: `untied ${file}` } }));
    }
  };
  assert.ok((await load({ conversion: untied })).weights.equals(container));
  assert.deepEqual(FakeConversion.log.map((line) => line.split(" ").at(-1)), ["tied", "untied"]);
  assert.equal(network.requests(WEIGHTS).length, 6);
});

test("a cache that is full, or none, keeps the converted model in memory", async () => {
  for (const overrides of [{ room: 6 * MIB }, { cache: "memory" }, { cache: "none" }]) {
    const { network, container, caches } = world({ caches: new FakeCaches(overrides.room) });
    const model = await load(overrides);
    assert.ok(model.weights.equals(container));
    assert.deepEqual(model.events.map(({ type }) => type), overrides.room ? ["quota"] : []);
    network.fault(/./, { error: new TypeError("offline") }, 100);
    assert.ok((await model.pour()).equals(container), "another device takes it from memory");
    assert.deepEqual(caches.keys(/model\//), []);
  }
});

test("two loads at once convert a repository once", async () => {
  const { network, container, bytes } = world();
  const models = await Promise.all([load().catch(String), load().catch(String)]);
  for (const { weights } of models) assert.ok(weights?.equals(container));
  assert.equal(network.served(WEIGHTS), bytes.length + 16);
});

test("what a repository costs is known without converting it", async () => {
  const { network, bytes, caches } = world();
  assert.deepEqual(await estimate(SOURCE, OPTIONS), { downloadBytes: bytes.length, cachedBytes: 0, busy: false });
  assert.deepEqual(network.log.map(({ url }) => url), [API]);
  assert.deepEqual(caches.keys(), []);
});

test("repositories that are not there, or hold no BLIP, say what was looked for", async () => {
  const { network } = world({ bytes: noise(MIB) });
  const answer = JSON.parse(network.files[API]);
  const cases = [
    [() => network.fault(/api/, { status: 401 }), "download-failed", /no public repository owner\/name with a revision main .*401/],
    [() => network.fault(/api/, { status: 404 }), "download-failed", /no public repository/],
    [() => (network.files[API] = "<!doctype html>"), "download-failed", /not the answer of a model hub/],
    [() => (network.files[API] = "null"), "download-failed", /not the answer of a model hub/],
    [() => (network.files[API] = JSON.stringify({ ...answer, sha: "../x" })), "download-failed", /not the answer of a model hub/],
    [() => (network.files[API] = JSON.stringify({ ...answer, siblings: [] })), "download-failed", /has no config\.json, no vocab\.txt, no model\.safetensors or pytorch_model\.bin/],
    [() => (network.files[API] = JSON.stringify({ ...answer, siblings: [null, ...answer.siblings.slice(0, 3)] })), "download-failed", /has no model\.safetensors/],
    [() => (network.files[API] = JSON.stringify({ ...answer, siblings: answer.siblings.map(({ rfilename }) => ({ rfilename })) })), "download-failed", /does not say how long/],
  ];
  for (const [change, code, message] of cases) {
    change();
    await assert.rejects(load(), { code, message });
  }
});
