import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { inlineChannel } from "../dist/channel.js";
import { Client } from "../dist/client.js";
import { startModule } from "../dist/engine.js";
import { fakeModule, serve, serveModel, starting, trap } from "./fake-engine.mjs";

const message = { device: "cpu", manifestUrl: "https://example.test/fake/blip.json" };
const image = () => ({ kind: "encoded", bytes: new Uint8Array(3) });
let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

async function connect(overrides = {}) {
  const log = [];
  const client = new Client(inlineChannel(starting(fakeModule(overrides, log))));
  await client.create(message, () => {});
  return { client, log };
}

test("the engine works in the calling thread and is freed by close", async () => {
  const { client, log } = await connect();
  assert.equal((await client.caption(image(), {}, () => {})).text, "a red apple");
  await client.close();
  assert.equal(log.at(-1), "free");
});

test("close waits for the running call to stop before it frees the engine", async () => {
  const { client, log } = await connect();
  const call = client.caption(image(), {}, () => {}).catch((error) => error.code);
  await new Promise((resolve) => setTimeout(resolve, 1));
  await client.close();
  assert.equal(await call, "disposed");
  assert.deepEqual(log.slice(-2), ["abort bytes:3", "free"]);
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

test("a trap that no promise sees still settles the call", async () => {
  const handlers = new Map();
  globalThis.addEventListener = (type, handler) => handlers.set(type, handler);
  globalThis.removeEventListener = (type) => handlers.delete(type);
  try {
    const { client } = await connect({ caption: () => new Promise(() => {}) });
    const call = client.caption(image(), {}, () => {}).catch((error) => error.code);
    await new Promise((resolve) => setTimeout(resolve, 1));
    handlers.get("error")({ error: new Error("another script") });
    handlers.get("error")({ error: trap() });
    assert.equal(await call, "internal");
    await assert.rejects(client.caption(image(), {}, () => {}), { code: "disposed" });
    await client.close();
    // The module that trapped is not entered again.
    await assert.rejects(startModule({}, new AbortController().signal), { code: "internal", message: /reload/ });
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
});
