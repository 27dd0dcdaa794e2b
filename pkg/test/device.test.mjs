import assert from "node:assert/strict";
import test, { afterEach } from "node:test";
import { openEngine } from "../dist/device.js";
import { coded, fakeModule } from "./fake-engine.mjs";

const original = Object.getOwnPropertyDescriptor(globalThis, "navigator");
afterEach(() => {
  if (original) Object.defineProperty(globalThis, "navigator", original);
  else delete globalThis.navigator;
});

/** A browser whose WebGPU finds `info`, or nothing. */
function browser(info) {
  const gpu = { requestAdapter: async () => (info === null ? null : { info }) };
  Object.defineProperty(globalThis, "navigator", { value: info === undefined ? {} : { gpu }, configurable: true });
}

const REAL = { vendor: "acme", architecture: "one", isFallbackAdapter: false };

test("auto takes a real GPU and gives no reason", async () => {
  browser(REAL);
  const opened = await openEngine(fakeModule(), "auto");
  assert.equal(opened.device, "webgpu");
  assert.equal(opened.fallbackReason, undefined);
});

test("auto falls back to the CPU and says why", async () => {
  const cases = [
    [undefined, /no WebGPU/],
    [null, /no WebGPU adapter/],
    [{ vendor: "google", architecture: "swiftshader", isFallbackAdapter: true }, /software.*google swiftshader/],
  ];
  for (const [info, reason] of cases) {
    browser(info);
    const log = [];
    const opened = await openEngine(fakeModule({}, log), "auto");
    assert.equal(opened.device, "cpu");
    assert.match(opened.fallbackReason, reason);
    assert.deepEqual(log, ["open cpu"]);
  }
});

test("auto falls back when the engine finds a feature missing, and repeats its words", async () => {
  browser(REAL);
  const open = async (device) => {
    if (device === "webgpu") throw coded("feature-missing", "no timestamp-query");
  };
  const opened = await openEngine(fakeModule({ open }), "auto");
  assert.equal(opened.device, "cpu");
  assert.equal(opened.fallbackReason, "no timestamp-query");
});

test("auto does not hide a fault of the engine behind the CPU", async () => {
  browser(REAL);
  const open = async () => {
    throw coded("internal", "a fault");
  };
  await assert.rejects(openEngine(fakeModule({ open }), "auto"), { code: "internal" });
});

test("an explicit webgpu takes a software adapter as well", async () => {
  browser({ ...REAL, isFallbackAdapter: true });
  assert.equal((await openEngine(fakeModule(), "webgpu")).device, "webgpu");
});
