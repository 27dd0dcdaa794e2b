import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { inlineChannel } from "../dist/channel.js";
import { Client } from "../dist/client.js";
import { coded, FakeEngine, fakeModule, modelFiles, serve, serveModel, starting, trap } from "./fake-engine.mjs";
import { FakeCaches, FakeLocks, noise, sha256 } from "./fake-network.mjs";

const plan = { sources: [{ source: { kind: "manifest", url: "https://example.test/fake/blip.json" } }] };
const message = { device: "cpu", plan, dtype: { vision: "q8", text: "q8" }, cache: "auto" };
const image = () => ({ kind: "encoded", bytes: new Uint8Array(3) });
let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

/** A caption of one image. */
const caption = async (client) => (await client.run({ task: "caption" }, [image()], {}, {})).results[0];

async function connect(overrides = {}) {
  const log = [];
  const client = new Client(inlineChannel(starting(fakeModule(overrides, log))));
  await client.create(message, () => {});
  return { client, log };
}

test("the engine works in the calling thread and is freed by close", async () => {
  const { client, log } = await connect();
  assert.equal((await caption(client)).text, "a red apple");
  await client.close();
  assert.equal(log.at(-1), "free");
});

test("close waits for the running call to stop before it frees the engine", async () => {
  const { client, log } = await connect();
  const call = caption(client).catch((error) => error.code);
  await new Promise((resolve) => setTimeout(resolve, 1));
  await client.close();
  assert.equal(await call, "disposed");
  assert.deepEqual(log.slice(-2), ["abort caption bytes:3", "free"]);
});

test("an engine that opens after its model failed is freed as well", async () => {
  restore();
  restore = serve({});
  const log = [];
  const open = () => new Promise((resolve) => setTimeout(resolve, 20));
  const client = new Client(inlineChannel(starting(fakeModule({ open }, log))));
  await assert.rejects(client.create(message, () => {}), { code: "download-failed" });
  await client.close();
  assert.deepEqual(log, ["open cpu", "free"]);
});

test("a creation that fails while the download waits for it does not hold up the next one", { timeout: 20_000 }, async () => {
  restore();
  // More than may wait for an engine.
  const weights = noise(20 << 20);
  const { manifest, vocab } = modelFiles();
  manifest.files.weights = { path: "weights.bin", bytes: weights.length, sha256: sha256(weights) };
  restore = serveModel({ manifest, weights, vocab });
  const locks = new FakeLocks();
  const replaced = { caches: new FakeCaches(), navigator: { locks } };
  const originals = Object.keys(replaced).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name, value] of Object.entries(replaced)) Object.defineProperty(globalThis, name, { configurable: true, value });
  try {
    const open = async () => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      throw coded("out-of-memory", "no device");
    };
    const broken = new Client(inlineChannel(starting(fakeModule({ open }))));
    await assert.rejects(broken.create(message, () => {}), { code: "out-of-memory" });
    await broken.close();
    const { client } = await connect();
    assert.equal((await caption(client)).text, "a red apple");
    await client.close();
    assert.deepEqual(locks.held, []);
  } finally {
    for (const [name, original] of originals) {
      if (original) Object.defineProperty(globalThis, name, original);
      else delete globalThis[name];
    }
  }
});

test("a creation that is aborted while pipelines are compiled stops there, as does one whose instance is closed", async () => {
  for (const close of [false, true]) {
    const asked = [];
    const warmUp = async (onProgress) => {
      for (let step = 1; step <= 100; step++) {
        await new Promise((resolve) => setTimeout(resolve));
        asked.push(step);
        // A step is asked about more than once.
        if (!onProgress(step, 100) || !onProgress(step, 100)) throw coded("aborted", `cancelled after ${step} of 100 steps`);
      }
      return 1;
    };
    const log = [];
    const client = new Client(inlineChannel(starting(fakeModule({ warmUp }, log))));
    const controller = new AbortController();
    const steps = [];
    let closed;
    const onProgress = (progress) => {
      if (progress.phase !== "compile") return;
      steps.push(progress.done);
      if (progress.done !== 3) return;
      if (close) closed = client.close();
      else controller.abort();
    };
    await assert.rejects(client.create(message, onProgress, controller.signal), close ? { code: "disposed" } : { name: "AbortError" });
    await (closed ?? client.close());
    assert.deepEqual(steps, [0, 1, 2, 3], "each step is shown once");
    assert.ok(asked.at(-1) <= 4, `compiled on to step ${asked.at(-1)}`);
    assert.equal(log.at(-1), "free");
  }
});

test("a trap that no promise sees is survived: the call is made again in another module", async () => {
  const handlers = new Map();
  globalThis.addEventListener = (type, handler) => handlers.set(type, handler);
  globalThis.removeEventListener = (type) => handlers.delete(type);
  try {
    const engines = [];
    const events = [];
    let hangs = true;
    const run = function (...args) {
      if (!hangs) return FakeEngine.prototype.run.apply(this, args);
      hangs = false;
      return new Promise(() => {});
    };
    const client = new Client(inlineChannel(starting(fakeModule({ run }, [], engines))), ({ type }) => events.push(type));
    await client.create(message, () => {});
    const call = caption(client);
    await new Promise((resolve) => setTimeout(resolve, 10));
    let prevented = 0;
    const event = (error) => ({ error, preventDefault: () => prevented++ });
    handlers.get("error")(event(new Error("another script")));
    assert.equal(prevented, 0, "errors of others are left alone");
    handlers.get("error")(event(trap()));
    assert.equal(prevented, 1, "the page does not hear of a trap as of a fault of its own");
    assert.equal((await call).text, "a red apple");
    assert.equal(engines.length, 2);
    assert.equal(engines[0].freed, false, "the module that trapped is not entered again");
    assert.deepEqual(events, ["devicelost", "devicerestored"]);
    await client.close();
    assert.deepEqual([...handlers.keys()], []);
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
});
