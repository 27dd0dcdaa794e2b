import assert from "node:assert/strict";
import test, { afterEach } from "node:test";
import { parseManifest } from "../dist/manifest.js";
import { fetchModel } from "../dist/store.js";
import { modelFiles, serve, serveModel } from "./fake-engine.mjs";

const URL_ = "https://example.test/models/fake/blip.json";
let restore = () => {};
afterEach(() => restore());

const fetchFake = (onProgress = () => {}, signal = new AbortController().signal) => fetchModel(URL_, onProgress, signal);
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

test("one changed byte is integrity", async () => {
  const files = modelFiles();
  files.weights[3] ^= 1;
  restore = serveModel(files);
  await assert.rejects(fetchFake(), { code: "integrity", message: /weights\.bin: SHA-256/ });
});

test("a file of another length is integrity", async () => {
  for (const change of [(bytes) => bytes.slice(1), (bytes) => new Uint8Array([...bytes, 0])]) {
    const files = modelFiles();
    files.weights = change(files.weights);
    restore = serveModel(files);
    await assert.rejects(fetchFake(), { code: "integrity", message: /weights\.bin/ });
    restore();
  }
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
    [(manifest) => (manifest.formatVersion = 2), /formatVersion/],
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

test("a manifest cannot point outside its directory", () => {
  for (const path of ["../secret", "/etc/x", "https://elsewhere.test/x", "a/../b", "", "."]) {
    const json = manifestWith((manifest) => (manifest.files.weights.path = path));
    assert.throws(() => parseManifest(json, URL_), { code: "bad-config", message: /weights\.path/ }, path);
  }
});
