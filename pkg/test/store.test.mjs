import assert from "node:assert/strict";
import test, { afterEach } from "node:test";
import { parseManifest } from "../dist/manifest.js";
import { openModel } from "../dist/store.js";
import { modelFiles, serve, serveModel } from "./fake-engine.mjs";

const URL_ = "https://example.test/models/fake/blip.json";
let restore = () => {};
afterEach(() => restore());

/** The whole model, its weights put together again. */
async function fetchFake(onProgress = () => {}, signal = new AbortController().signal, push = () => {}) {
  const model = await openModel(URL_, onProgress, signal);
  const pieces = [];
  await model.pourWeights((piece) => {
    push(piece);
    pieces.push(piece.slice());
  });
  return { ...model, pieces, weights: Buffer.concat(pieces) };
}
const manifestWith = (change) => {
  const { manifest } = modelFiles();
  change(manifest);
  return JSON.stringify(manifest);
};

test("a model arrives whole, with progress up to its total", async () => {
  restore = serveModel();
  const steps = [];
  const model = await fetchFake((step) => steps.push(step));
  assert.equal(new TextDecoder().decode(model.weights), "weights");
  assert.equal(new TextDecoder().decode(model.vocab), "vocab");
  assert.deepEqual(model.manifest.knows.nouns, ["apple"]);
  assert.deepEqual(steps.at(-1), { phase: "download", file: "weights.bin", loaded: 12, total: 12 });
});

test("a missing file is download-failed with its address and status", async () => {
  restore = serve({});
  await assert.rejects(fetchFake(), { code: "download-failed", message: /blip\.json: HTTP status 404/ });
});

test("a network failure is download-failed", async () => {
  const original = globalThis.fetch;
  restore = () => (globalThis.fetch = original);
  globalThis.fetch = async () => {
    throw new TypeError("network down");
  };
  await assert.rejects(fetchFake(), { code: "download-failed", message: /network down/ });
});

test("weights come in pieces of at most a mebibyte, and a second time when asked again", async () => {
  const files = modelFiles();
  files.weights = new Uint8Array(2.5 * 2 ** 20).map((_, index) => index);
  files.manifest.files.weights.bytes = files.weights.length;
  restore = serveModel(files);
  const model = await fetchFake();
  assert.ok(model.pieces.every((piece) => piece.length <= 2 ** 20) && model.pieces.length >= 3);
  assert.ok(model.weights.equals(files.weights));
  let again = 0;
  await model.pourWeights((piece) => (again += piece.length));
  assert.equal(again, files.weights.length);
});

test("a fault of what takes the weights is passed on as it is, and ends the download", async () => {
  restore = serveModel();
  const fault = Object.assign(new Error("differs from its manifest"), { code: "integrity" });
  await assert.rejects(fetchFake(undefined, undefined, () => { throw fault; }), (error) => error === fault);
});

test("a vocabulary longer than its manifest says is integrity", async () => {
  const files = modelFiles();
  files.vocab = new Uint8Array([...files.vocab, 0]);
  restore = serveModel(files);
  await assert.rejects(fetchFake(), { code: "integrity", message: /vocab\.txt/ });
});

test("cancelling rejects with the reason of the signal", async () => {
  restore = serveModel();
  const reason = new Error("enough");
  await assert.rejects(fetchFake(undefined, AbortSignal.abort(reason)), (error) => error === reason);
});

test("a page in place of the manifest is bad-config", () => {
  assert.throws(() => parseManifest("<!doctype html>", URL_), { code: "bad-config" });
});

test("a manifest of another version, or with a field missing, is bad-config and names the field", () => {
  const cases = [
    [(manifest) => (manifest.formatVersion = 3), /formatVersion/],
    [(manifest) => delete manifest.quantisation, /quantisation/],
    [(manifest) => delete manifest.quantisation.text, /quantisation\.text/],
    [(manifest) => delete manifest.files.vocab, /files\.vocab/],
    [(manifest) => (manifest.files.weights.sha256 = "abc"), /files\.weights\.sha256/],
    [(manifest) => (manifest.files.weights.bytes = -1), /files\.weights\.bytes/],
    [(manifest) => (manifest.tasks = "caption"), /tasks/],
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
  });
  assert.deepEqual(parseManifest(json, URL_).quantisation, { vision: "f16", text: "f16" });
});

test("a manifest cannot point outside its directory", () => {
  for (const path of ["../secret", "/etc/x", "https://elsewhere.test/x", "a/../b", "", "."]) {
    const json = manifestWith((manifest) => (manifest.files.weights.path = path));
    assert.throws(() => parseManifest(json, URL_), { code: "bad-config", message: /weights\.path/ }, path);
  }
});
