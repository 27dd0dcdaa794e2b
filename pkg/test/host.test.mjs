import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { EngineHost } from "../dist/host.js";
import { FakeEngine, fakeModule, serveModel, starting } from "./fake-engine.mjs";
import { image, settle } from "./instance.mjs";

let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

/** An engine's end of the protocol, and `call`, which sends a message and resolves to its answer. */
async function host(overrides = {}) {
  const [log, engines, waiting] = [[], [], new Map()];
  const post = (message) => {
    if (message.type === "done") waiting.get(message.id).resolve(message.value);
    if (message.type === "failed") waiting.get(message.id).reject(message);
  };
  const host = new EngineHost(post, starting(fakeModule(overrides, log, engines)));
  let id = 0;
  const call = (message) => {
    return new Promise((resolve, reject) => {
      waiting.set(++id, { resolve, reject });
      host.receive({ id, ...message });
    });
  };
  const plan = { sources: [{ source: { kind: "manifest", url: "https://example.test/blip.json" } }] };
  const dtype = { vision: "q8", text: "q8" };
  await call({ type: "create", create: { device: "cpu", plan, dtype, cache: "none" } });
  return { host, call, log, engines };
}

const payload = (size) => ({ kind: "encoded", bytes: image(size) });

test("however many images a request is about, a few are held at a time", async () => {
  const groups = [];
  let most = 0;
  const run = function (json, handles, ...rest) {
    groups.push(handles.length);
    most = Math.max(most, this.pictures.size);
    return FakeEngine.prototype.run.call(this, json, handles, ...rest);
  };
  const { call, engines } = await host({ run });
  const pictures = Array.from({ length: 50 }, (_, index) => payload(index + 1));
  for (const [request, size] of [
    [{ task: "classify", labels: ["cat", "dog"] }, 8],
    [{ task: "classify", labels: ["cat", "dog"], head: "itm" }, 1],
    [{ task: "embed", kind: "image" }, 8],
    [{ task: "caption" }, 1],
  ]) {
    [groups.length, most] = [0, 0];
    const { results } = await call({ type: "run", request, pictures, options: {} });
    assert.equal(results.length, 50);
    assert.deepEqual([...new Set(groups)].sort(), size === 8 ? [2, 8] : [1], JSON.stringify(request));
    assert.ok(most <= 16, `${most} pictures at a time`);
  }
  const { results } = await call({ type: "run", request: { task: "classify", labels: ["cat"] }, pictures, options: {} });
  assert.deepEqual(results.map(([{ picture }]) => picture), pictures.map(({ bytes }) => `bytes:${bytes.length}`));
  await settle();
  assert.equal(engines[0].pictures.size, 0);
});

test("what is about several images or about none is one question", async () => {
  const { call, log } = await host();
  await call({ type: "run", request: { task: "nlvr2", statement: "x" }, pictures: [payload(3), payload(4)], options: {} });
  const { floats } = await call({ type: "run", request: { task: "embed", kind: "text", texts: ["a", "bc"] }, pictures: [], options: {} });
  assert.deepEqual(floats.map(([value]) => value), [1, 2]);
  assert.deepEqual(log.filter((line) => line.startsWith("run")), ["run nlvr2 bytes:3 + bytes:4", "run embed "]);
  assert.deepEqual((await call({ type: "run", request: { task: "caption" }, pictures: [], options: {} })).results, []);
});

test("images of a request are encoded for it, and what has a handle is not", async () => {
  const requests = [];
  const encode = function (images, options, request) {
    requests.push(request);
    return FakeEngine.prototype.encode.call(this, images, options);
  };
  const { call } = await host({ encode });
  const [picture] = await call({ type: "encode", images: [payload(5)], options: {}, video: false });
  assert.deepEqual(requests, [undefined]);
  const request = { task: "match", texts: ["a cat"], heads: ["itm"] };
  await call({ type: "run", request, pictures: [payload(3), { kind: "picture", picture }, payload(4)], options: {} });
  assert.ok(requests.length > 1);
  assert.deepEqual([...new Set(requests.slice(1))], [JSON.stringify(request)]);
});
