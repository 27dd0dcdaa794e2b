import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { Blip } from "../dist/index.js";
import { fakeModule, FakeWorker, modelFiles, serve, serveModel } from "./fake-engine.mjs";
import { FakeCaches } from "./fake-network.mjs";
import { create } from "./instance.mjs";

const modelBase = "https://example.test/models";
const original = Object.getOwnPropertyDescriptor(globalThis, "navigator");
let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => {
  restore();
  if (original) Object.defineProperty(globalThis, "navigator", original);
  else delete globalThis.navigator;
});

/** A browser with this adapter; an error is what asking for one ends with. */
function browser(info) {
  const gpu = { requestAdapter: async () => (info instanceof Error ? Promise.reject(info) : info === null ? null : { info, features: new Set(info.features ?? ["timestamp-query"]) }) };
  Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
}

const REAL = { vendor: "acme", architecture: "one", isFallbackAdapter: false };
const SOFTWARE = { ...REAL, isFallbackAdapter: true };

test("a model that is there can be downloaded, and its size is known before", async () => {
  const { state, device, downloadBytes, cachedBytes } = await Blip.availability({ modelBase, device: "cpu" });
  assert.deepEqual({ state, device, downloadBytes, cachedBytes }, { state: "downloadable", device: "cpu", downloadBytes: 12, cachedBytes: 0 });
});

test("it says which device would be taken, and why not the GPU", async () => {
  browser(REAL);
  assert.equal((await Blip.availability({ modelBase })).device, "webgpu");
  browser(SOFTWARE);
  const soft = await Blip.availability({ modelBase });
  assert.equal(soft.device, "cpu");
  assert.match(soft.reason, /software/);
  assert.equal((await Blip.availability({ modelBase, device: "webgpu" })).state, "downloadable", "who asks for it gets it");
  browser(null);
  const none = await Blip.availability({ modelBase, device: "webgpu" });
  assert.equal(none.state, "unavailable");
  assert.match(none.reason, /no WebGPU adapter/);
});

test("a GPU that cannot be had is an answer, too", async () => {
  for (const [info, reason] of [[new TypeError("no GPU process"), /no GPU process/], [{ ...REAL, features: [] }, /timestamp-query/]]) {
    browser(info);
    const { device, reason: why } = await Blip.availability({ modelBase });
    assert.equal(device, "cpu");
    assert.match(why, reason);
    assert.equal((await Blip.availability({ modelBase, device: "webgpu" })).state, "unavailable");
  }
});

test("a model that is not there is unavailable, and the reason has the address", async () => {
  restore();
  restore = serve({});
  const { state, reason } = await Blip.availability({ modelBase, device: "cpu" });
  assert.equal(state, "unavailable");
  assert.match(reason, /example\.test.*404/);
});

test("it looks at what `create` would look at: the cache it may use, the sources its tasks need", async () => {
  const sizes = async (options) => {
    const { state, downloadBytes, cachedBytes } = await Blip.availability({ modelBase, device: "cpu", ...options });
    return [state, downloadBytes, cachedBytes];
  };
  globalThis.caches = new FakeCaches();
  try {
    await create();
    assert.deepEqual(await sizes({}), ["available", 0, 12]);
    for (const cache of ["memory", "none"]) assert.deepEqual(await sizes({ cache }), ["downloadable", 12, 0]);
  } finally {
    delete globalThis.caches;
  }
  const model = { caption: "one", vqa: "two" };
  assert.deepEqual(await sizes({ model }), ["downloadable", 24, 0]);
  assert.deepEqual(await sizes({ model, tasks: ["caption"] }), ["downloadable", 12, 0]);
});

test("a task that no model has is unavailable, in the words of `create`", async () => {
  for (const options of [{ tasks: ["caption", "vqa"] }, { model: { caption: "one" }, tasks: ["vqa"] }, { model: { caption: "one", vqa: "two" }, tasks: ["vqa"] }]) {
    const { state, reason } = await Blip.availability({ modelBase, device: "cpu", ...options });
    assert.equal(state, "unavailable", JSON.stringify(options));
    await assert.rejects(create({}, options), { code: "task-unsupported", message: reason });
  }
});

test("what the weights take on the GPU is known where there is a manifest", async () => {
  browser(REAL);
  assert.equal((await Blip.availability({ modelBase })).gpuBytes, modelFiles().weights.length);
  assert.equal((await Blip.availability({ modelBase, device: "cpu" })).gpuBytes, 0);
});

test("while it is being created it is downloading", async () => {
  const finishLoad = () => new Promise((resolve) => setTimeout(resolve, 50));
  const createWorker = () => new FakeWorker(fakeModule({ finishLoad }));
  const creating = Blip.create({ modelBase, device: "cpu", createWorker });
  assert.equal((await Blip.availability({ modelBase, device: "cpu" })).state, "downloading");
  await creating;
  assert.notEqual((await Blip.availability({ modelBase, device: "cpu" })).state, "downloading");
});

test("a question that makes no sense is an error, and so is one that is aborted", async () => {
  await assert.rejects(Blip.availability({ modelBase, device: "gpu" }), { code: "bad-option" });
  await assert.rejects(Blip.availability({ modelBase, signal: AbortSignal.abort() }), { name: "AbortError" });
});
