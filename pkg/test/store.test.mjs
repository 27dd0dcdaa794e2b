import assert from "node:assert/strict";
import test, { afterEach } from "node:test";
import { modelCache } from "../dist/cache.js";
import { limitTasks, parseManifest } from "../dist/manifest.js";
import { estimate, openModel } from "../dist/store.js";
import { FakeCaches, FakeLocks, FakeNetwork, IMPATIENT, noise, sha256 } from "./fake-network.mjs";

const BASE = "https://example.test/models/fake/";
const URL_ = `${BASE}blip.json`;
const CHUNK = 1 << 16;
const undo = [];
afterEach(() => undo.splice(0).forEach((restore) => restore()));

function replace(name, value) {
  const original = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { configurable: true, writable: true, value });
  undo.push(() => (original ? Object.defineProperty(globalThis, name, original) : delete globalThis[name]));
}

function entry(path, bytes, chunked = true) {
  const digests = [];
  for (let at = 0; at < bytes.length; at += CHUNK) digests.push(sha256(bytes.subarray(at, at + CHUNK)));
  return { path, bytes: bytes.length, sha256: sha256(bytes), ...(chunked ? { chunks: { size: CHUNK, sha256: digests } } : {}) };
}

/** A model of two files of weights, ten and a half pieces and two. */
function published({ chunked = true, seed = 1, version = 3 } = {}) {
  const [weights, further, vocab] = [noise(10.5 * CHUNK, seed), noise(2 * CHUNK, seed + 1), new TextEncoder().encode("vocab")];
  const manifest = {
    formatVersion: version,
    id: "fake",
    tasks: ["caption"],
    config: {},
    quantisation: { vision: "q8", text: "q4" },
    licence: "MIT",
    knows: { nouns: ["apple"], colours: ["red"] },
    files: { weights: entry("weights.bin", weights, chunked), vocab: entry("vocab.txt", vocab, false) },
    networks: [{ tasks: ["vqa"], weights: entry("vqa.bin", further, chunked) }],
  };
  return { manifest, weights, further, vocab, all: Buffer.concat([weights, further]) };
}

/** A network with the model, and a browser's cache and locks. */
function world({ room, caches = new FakeCaches(room), ...options } = {}) {
  const model = published(options);
  const network = new FakeNetwork();
  serve(network, model);
  undo.push(network.install());
  replace("caches", caches);
  replace("navigator", { locks: new FakeLocks(), userAgent: "" });
  return { ...model, network, caches };
}

function serve(network, { manifest, weights, further, vocab }) {
  network.files[URL_] = JSON.stringify(manifest);
  Object.assign(network.files, { [`${BASE}weights.bin`]: weights, [`${BASE}vqa.bin`]: further, [`${BASE}vocab.txt`]: vocab });
}

/** Options, and what was reported through them. */
function options(overrides = {}) {
  const [steps, events] = [[], []];
  const all = {
    cache: "auto",
    dtype: { vision: "q8", text: "q4" },
    signal: new AbortController().signal,
    onProgress: (step) => steps.push(step),
    onEvent: (event) => events.push(event),
    patience: IMPATIENT,
    ...overrides,
  };
  return { all, steps, events };
}

/** The whole model, its weights put together again. */
async function load(overrides = {}, push = () => {}) {
  const { all, steps, events } = options(overrides);
  const model = await openModel({ kind: "manifest", url: URL_ }, all);
  const pour = async () => {
    const pieces = [];
    await model.pourWeights((piece) => {
      push(piece);
      pieces.push(piece.slice());
    });
    return pieces;
  };
  const pieces = await pour();
  return { ...model, pour, pieces, weights: Buffer.concat(pieces), steps, events };
}

const WEIGHTS = /\.bin$/;

test("a model arrives whole, its files in order, with progress up to a total that does not change", async () => {
  const { all } = world();
  const model = await load();
  assert.ok(model.weights.equals(all));
  assert.equal(new TextDecoder().decode(model.vocab), "vocab");
  assert.deepEqual(model.manifest.knows.nouns, ["apple"]);
  assert.ok(model.pieces.every((piece) => piece.length <= 2 ** 20));
  const total = all.length + 5;
  assert.ok(model.steps.every((step, index) => step.total === total && step.loaded > (model.steps[index - 1]?.loaded ?? 0)));
  assert.deepEqual(model.steps.at(-1), { phase: "download", file: "vqa.bin", loaded: total, total, fromCache: false });
  assert.deepEqual(model.events, []);
});

test("the second load takes no weights from the network, and asks only whether the manifest changed", async () => {
  const { all, network } = world();
  assert.equal((await load()).fromCache, false);
  network.log = [];
  const model = await load();
  assert.ok(model.weights.equals(all));
  assert.equal(model.fromCache, true);
  assert.ok(model.steps.every(({ fromCache }) => fromCache) && model.steps.at(-1).loaded === all.length + 5);
  assert.deepEqual(network.log.map(({ url, cache }) => [url, cache]), [[URL_, "no-cache"]]);
});

test("without a network the cached model is used; without either it is download-failed", async () => {
  const { all, network, caches } = world();
  await load();
  for (const answer of [{ error: new TypeError("offline") }, { status: 503 }]) {
    network.fault(/./, answer, 100);
    assert.ok((await load({ patience: undefined })).weights.equals(all));
    network.faults = [];
  }
  caches.remove(/./);
  network.fault(/./, { error: new TypeError("offline") }, 100);
  await assert.rejects(load(), { code: "download-failed", message: /blip\.json: offline/ });
});

test("behind a network that answers with its own page the cached model is used; without one it is bad-config", async () => {
  const { all, network, caches } = world();
  await load();
  network.files[URL_] = "<!doctype html><title>Log in</title>";
  const model = await load();
  assert.ok(model.weights.equals(all));
  assert.equal(model.fromCache, true);
  caches.remove(/./);
  await assert.rejects(load(), { code: "bad-config", message: /not a JSON model manifest/ });
});

test("a model that was taken away is not used from the cache", async () => {
  const { network } = world();
  await load();
  delete network.files[URL_];
  await assert.rejects(load(), { code: "download-failed", message: /blip\.json: HTTP status 404/ });
});

test("a new version replaces the old one, and what the old one left is deleted", async () => {
  const { network, caches } = world();
  await load();
  const before = caches.keys(/chunk/).length;
  const next = published({ seed: 7 });
  serve(network, next);
  assert.ok((await load()).weights.equals(next.all));
  assert.equal(caches.keys(/chunk/).length, before);
  assert.ok(caches.keys(/chunk/).every((url) => !url.includes(published().manifest.files.weights.sha256)));
});

test("a new version that does not arrive leaves the old one usable", async () => {
  const { all, network } = world();
  await load();
  serve(network, published({ seed: 7 }));
  network.fault(/weights\.bin/, { cut: 3 * CHUNK });
  network.fault(/weights\.bin/, { error: new TypeError("offline") }, 100);
  await assert.rejects(load(), { code: "download-failed" });
  network.faults = [];
  network.fault(/./, { error: new TypeError("offline") }, 100);
  assert.ok((await load()).weights.equals(all));
});

test("a damaged piece of the cache is read again, alone", async () => {
  for (const chunked of [true, false]) {
    const { all, network, caches } = world({ chunked });
    await load();
    const digest = published().manifest.files.weights.sha256;
    caches.damage(new RegExp(chunked ? `chunk/${digest}/3$` : `chunk/${digest}/0$`));
    network.log = [];
    const model = await load();
    assert.ok(model.weights.equals(all));
    assert.deepEqual(model.events.map(({ type }) => type), ["refetched"]);
    if (chunked) {
      assert.deepEqual(network.requests(WEIGHTS).map(({ range, cache }) => [range, cache]), [[`bytes=${3 * CHUNK}-${4 * CHUNK - 1}`, "reload"]]);
      assert.equal(network.served(WEIGHTS), CHUNK);
    }
    network.log = [];
    assert.ok((await load()).weights.equals(all));
    assert.equal(network.served(WEIGHTS), 0);
  }
});

test("a piece that is missing in the cache is read again without the others", async () => {
  const { all, network, caches } = world();
  await load();
  caches.remove(new RegExp(`chunk/${published().manifest.files.weights.sha256}/(2|3|10)$`));
  network.log = [];
  const model = await load();
  assert.ok(model.weights.equals(all));
  assert.equal(model.fromCache, false);
  assert.deepEqual(
    network.requests(WEIGHTS).map(({ range }) => range),
    [`bytes=${2 * CHUNK}-${4 * CHUNK - 1}`, `bytes=${10 * CHUNK}-`],
  );
});

test("a piece that arrives damaged is asked for once more, and is never stored or handed over", async () => {
  const { all, network } = world();
  network.fault(/weights\.bin/, { change: (bytes) => (bytes[4 * CHUNK + 9] ^= 1) });
  const model = await load();
  assert.ok(model.weights.equals(all));
  assert.deepEqual(network.requests(/weights\.bin/).map(({ range }) => range), [undefined, `bytes=${4 * CHUNK}-${5 * CHUNK - 1}`]);
  network.log = [];
  assert.ok((await load()).weights.equals(all));
  assert.equal(network.served(WEIGHTS), 0);
});

test("a file that differs from its manifest is integrity, and nothing of the difference is handed over", async () => {
  for (const chunked of [true, false]) {
    const { all, network, caches } = world({ chunked });
    const good = network.files[`${BASE}weights.bin`];
    network.files[`${BASE}weights.bin`] = good.map((byte, index) => (index === 4 * CHUNK + 9 ? byte ^ 1 : byte));
    let handed = 0;
    await assert.rejects(load({}, (piece) => (handed += piece.length)), { code: "integrity", message: /weights\.bin/ });
    if (chunked) assert.equal(handed, 4 * CHUNK);
    assert.deepEqual(caches.keys(/model\//), []);
    network.files[`${BASE}weights.bin`] = good;
    assert.ok((await load()).weights.equals(all), "the next attempt must not meet what was damaged");
  }
});

test("a vocabulary that differs from its manifest is integrity before weights are handed over", async () => {
  const { network } = world();
  network.files[`${BASE}vocab.txt`] = new TextEncoder().encode("vocal");
  await assert.rejects(load(), { code: "integrity", message: /vocab\.txt/ });
});

test("a load that is cancelled goes on later where it stopped, and is not a model before", async () => {
  const { all, network, caches } = world();
  const reason = new Error("enough");
  const controller = new AbortController();
  let handed = 0;
  const stop = (piece) => (handed += piece.length) >= 5 * CHUNK && controller.abort(reason);
  await assert.rejects(load({ signal: controller.signal }, stop), (error) => error === reason);
  assert.deepEqual(caches.keys(/model\//), []);
  const [partial] = await modelCache.list();
  assert.equal(partial.complete, false);
  assert.ok(partial.bytes >= 5 * CHUNK && partial.bytes < all.length, `${partial.bytes} bytes are kept`);
  network.log = [];
  assert.ok((await load()).weights.equals(all));
  const [first] = network.requests(/weights\.bin/);
  assert.match(first.range, /^bytes=(\d+)-$/);
  assert.equal(network.served(WEIGHTS), all.length + 5 - partial.bytes);
  assert.deepEqual((await modelCache.list()).map(({ complete }) => complete), [true]);
});

test("a cache that is full changes nothing but where pieces are, and says so once", async () => {
  const { all, network } = world({ room: 6 * CHUNK });
  const model = await load();
  assert.ok(model.weights.equals(all));
  assert.deepEqual(model.events.map(({ type }) => type), ["quota"]);
  assert.match(model.events[0].message, /quota has been exceeded/);
  assert.ok((await modelCache.list()).every(({ complete }) => !complete));
  // The second device takes them from memory.
  network.fault(/./, { error: new TypeError("offline") }, 100);
  assert.ok(Buffer.concat(await model.pour()).equals(all));
});

test("without a Cache API everything is in memory; `cache` says so, `auto` does not", async () => {
  for (const cache of ["auto", "memory", "cache"]) {
    const { all, network } = world();
    if (cache !== "memory") replace("caches", undefined);
    const model = await load({ cache });
    assert.ok(model.weights.equals(all));
    assert.deepEqual(model.events.map(({ type }) => type), cache === "cache" ? ["quota"] : []);
    network.log = [];
    assert.ok(Buffer.concat(await model.pour()).equals(all));
    assert.deepEqual(network.log, []);
    assert.deepEqual(await modelCache.list(), []);
  }
});

test("`none` keeps nothing: the weights are downloaded once more", async () => {
  const { all, network, caches } = world();
  const model = await load({ cache: "none" });
  network.log = [];
  assert.ok(Buffer.concat(await model.pour()).equals(all));
  assert.equal(network.served(WEIGHTS), all.length);
  assert.deepEqual(caches.keys(), []);
});

test("a cache that cannot be opened or read is as good as none", async () => {
  const { all, caches } = world();
  await load();
  const cache = await caches.open("blip-web-models-1");
  cache.match = async () => {
    throw new Error("unexpected internal error");
  };
  assert.ok((await load()).weights.equals(all));
  caches.open = async () => {
    throw new DOMException("the operation is insecure", "SecurityError");
  };
  assert.ok((await load()).weights.equals(all));
});

test("two loads at once download a model once", async () => {
  const { all, network } = world();
  const models = await Promise.all([load(), load(), load()]);
  for (const { weights } of models) assert.ok(weights.equals(all));
  assert.equal(network.served(WEIGHTS), all.length);
});

test("without locks two loads at once both end with the model", async () => {
  const { all } = world();
  replace("navigator", undefined);
  for (const { weights } of await Promise.all([load(), load()])) assert.ok(weights.equals(all));
  assert.ok((await load()).fromCache);
});

test("the download begins before anyone takes it, and stops when too much is waiting", async () => {
  const { network } = world();
  const { all } = options();
  const model = await openModel({ kind: "manifest", url: URL_ }, all);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(network.served(/weights\.bin/) > 0);
  let handed = 0;
  await model.pourWeights((piece) => (handed += piece.length));
  assert.equal(handed, 12.5 * CHUNK);
});

test("a fault of what takes the weights is passed on as it is, and ends the download", async () => {
  const { network } = world();
  const fault = Object.assign(new Error("the device is gone"), { code: "device-lost" });
  await assert.rejects(load({}, () => { throw fault; }), (error) => error === fault);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const served = network.served(WEIGHTS);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(network.served(WEIGHTS), served);
});

test("only the networks of the tasks that are asked for are downloaded; the others are added later", async () => {
  const { weights, all, network } = world();
  const caption = await load({ tasks: ["caption"] });
  assert.ok(caption.weights.equals(weights));
  assert.deepEqual(JSON.parse(caption.manifest.json).networks, []);
  assert.equal(network.requests(/vqa\.bin/).length, 0);
  network.log = [];
  assert.ok((await load()).weights.equals(all));
  assert.equal(network.requests(/weights\.bin/).length, 0);
  network.log = [];
  assert.equal((await load()).fromCache, true);
  assert.equal((await load({ tasks: ["caption"] })).fromCache, true);
  assert.equal((await load()).fromCache, true);
  assert.equal(network.served(WEIGHTS), 0);
});

test("what a model costs is known without downloading or storing it", async () => {
  const { all, network, caches } = world();
  const source = { kind: "manifest", url: URL_ };
  const total = all.length + 5;
  const sizes = async () => {
    const { manifest, ...sizes } = await estimate(source, options().all);
    assert.equal(manifest.id, "fake");
    return sizes;
  };
  assert.deepEqual(await sizes(), { downloadBytes: total, cachedBytes: 0, busy: false });
  assert.deepEqual(caches.keys(), []);
  assert.deepEqual(network.log.map(({ url }) => url), [URL_]);
  assert.equal((await estimate(source, { ...options().all, tasks: ["caption"] })).downloadBytes, total - 2 * CHUNK);
  await load();
  assert.deepEqual(await sizes(), { downloadBytes: 0, cachedBytes: total, busy: false });
  assert.equal((await estimate(source, { ...options().all, cache: "none" })).cachedBytes, 0, "what the cache has is of no use without it");
});

test("the cache lists, measures and deletes models", async () => {
  const { all, network, caches } = world();
  await load();
  const other = published({ seed: 3 });
  const there = URL_.replace("fake", "other");
  for (const [url, bytes] of Object.entries(network.files)) network.files[url.replace("/fake/", "/other/")] = bytes;
  network.files[there] = JSON.stringify({ ...other.manifest, id: "other" });
  network.files[there.replace("blip.json", "weights.bin")] = other.weights;
  network.files[there.replace("blip.json", "vqa.bin")] = other.further;
  const { all: opts } = options();
  await (await openModel({ kind: "manifest", url: there }, opts)).pourWeights(() => {});
  const listed = await modelCache.list();
  assert.deepEqual(listed.map(({ key, id, bytes, complete }) => [key, id, bytes, complete]), [
    [URL_, "fake", all.length + 5, true],
    [there, "other", all.length + 5, true],
  ]);
  assert.ok(listed.every(({ saved }) => Math.abs(Date.now() - Date.parse(saved)) < 60_000));
  // The vocabulary is the same file, stored once.
  assert.equal(caches.keys(/chunk/).length, 2 * 13 + 1);
  assert.ok(Math.abs((await modelCache.size()) - 2 * all.length) < 8192);
  await modelCache.delete("fake");
  assert.deepEqual((await modelCache.list()).map(({ id }) => id), ["other"]);
  assert.equal(caches.keys(/chunk/).length, 14);
  network.log = [];
  assert.ok((await openModel({ kind: "manifest", url: there }, options().all)).fromCache, "the shared vocabulary stays");
  await modelCache.delete(there);
  assert.deepEqual(caches.keys(), []);
  await load();
  await modelCache.delete();
  assert.equal(await modelCache.size(), 0);
});

test("a missing file is download-failed with its address and status", async () => {
  const { network } = world();
  delete network.files[`${BASE}weights.bin`];
  await assert.rejects(load(), { code: "download-failed", message: /weights\.bin: HTTP status 404/ });
});

test("cancelling before the start rejects with the reason of the signal", async () => {
  world();
  const reason = new Error("enough");
  await assert.rejects(load({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
});

test("a page in place of the manifest is bad-config", async () => {
  const { network } = world();
  network.files[URL_] = "<!doctype html>";
  await assert.rejects(load(), { code: "bad-config", message: /not a JSON model manifest/ });
});

const manifestWith = (change) => {
  const { manifest } = published();
  change(manifest);
  return JSON.stringify(manifest);
};

test("a manifest of another version, or with a field missing, is bad-config and names the field", () => {
  const cases = [
    [(manifest) => (manifest.formatVersion = 4), /formatVersion/],
    [(manifest) => delete manifest.quantisation, /quantisation/],
    [(manifest) => delete manifest.quantisation.text, /quantisation\.text/],
    [(manifest) => delete manifest.files.vocab, /files\.vocab/],
    [(manifest) => (manifest.files.weights.sha256 = "abc"), /files\.weights\.sha256/],
    [(manifest) => (manifest.files.weights.bytes = -1), /files\.weights\.bytes/],
    [(manifest) => manifest.files.weights.chunks.sha256.pop(), /files\.weights\.chunks/],
    [(manifest) => (manifest.files.weights.chunks.size = 2 ** 27), /files\.weights\.chunks/],
    [(manifest) => (manifest.tasks = "caption"), /tasks/],
    [(manifest) => (manifest.networks = {}), /networks/],
    [(manifest) => delete manifest.networks[0].weights, /networks\[0\]\.weights/],
    [(manifest) => delete manifest.networks[0].tasks, /networks\[0\]\.tasks/],
    [(manifest) => delete manifest.licence, /licence/],
  ];
  for (const [change, message] of cases) {
    assert.throws(() => parseManifest(manifestWith(change), URL_), { code: "bad-config", message });
  }
});

test("a manifest of the first version has one element type for both sides", () => {
  const json = manifestWith((manifest) => {
    Object.assign(manifest, { formatVersion: 1, dtype: "f16" });
    delete manifest.quantisation;
    delete manifest.networks;
  });
  const manifest = parseManifest(json, URL_);
  assert.deepEqual(manifest.quantisation, { vision: "f16", text: "f16" });
  assert.deepEqual(manifest.networks, []);
});

test("a manifest cannot point outside its directory", () => {
  for (const path of ["../secret", "/etc/x", "https://elsewhere.test/x", "a/../b", "", "."]) {
    const json = manifestWith((manifest) => (manifest.networks[0].weights.path = path));
    assert.throws(() => parseManifest(json, URL_), { code: "bad-config", message: /weights\.path/ }, path);
  }
});

test("a manifest that is limited to tasks keeps everything else", () => {
  const full = parseManifest(manifestWith(() => {}), URL_);
  assert.equal(limitTasks(full, ["caption", "vqa"]), full);
  const limited = limitTasks(full, ["itm"]);
  assert.deepEqual(limited.networks, []);
  assert.deepEqual(JSON.parse(limited.json), { ...JSON.parse(full.json), networks: [] });
});
