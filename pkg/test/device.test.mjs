import assert from "node:assert/strict";
import test, { afterEach } from "node:test";
import { gpuFault, openEngine } from "../dist/device.js";
import { EngineHost } from "../dist/host.js";
import { coded, fakeModule, selfTest, serveModel, starting } from "./fake-engine.mjs";

const original = Object.getOwnPropertyDescriptor(globalThis, "navigator");
afterEach(() => {
  if (original) Object.defineProperty(globalThis, "navigator", original);
  else delete globalThis.navigator;
});

/** A browser with this adapter, or one that refuses it. */
function adapter(found) {
  const requestAdapter = async () => {
    if (found instanceof Error) throw found;
    return { features: new Set(["timestamp-query"]), ...found };
  };
  Object.defineProperty(globalThis, "navigator", { value: { gpu: { requestAdapter } }, configurable: true });
}

/** A browser whose WebGPU finds `info`, or nothing. */
function browser(info) {
  const gpu = { requestAdapter: async () => (info === null ? null : { info, features: new Set(["timestamp-query"]) }) };
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

test("an adapter without a description is taken; one that says by itself that it is software is not", async () => {
  adapter({});
  assert.equal((await openEngine(fakeModule(), "auto")).device, "webgpu");
  adapter({ isFallbackAdapter: true });
  assert.match((await openEngine(fakeModule(), "auto")).fallbackReason, /a software one$/);
  adapter({ isFallbackAdapter: true, info: { vendor: "google", architecture: "" } });
  assert.match((await openEngine(fakeModule(), "auto")).fallbackReason, /a software one \(google\)$/);
});

test("an adapter that is refused, or lacks what the engine needs, is none", async () => {
  adapter(new TypeError("no GPU process"));
  assert.match((await openEngine(fakeModule(), "auto")).fallbackReason, /refused a WebGPU adapter: no GPU process/);
  adapter({ info: REAL, features: new Set() });
  assert.match((await openEngine(fakeModule(), "auto")).fallbackReason, /timestamp-query/);
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

test("a self-test that the GPU cannot run is its fault, anything else is not", async () => {
  const failing = (code) => ({ selfTest: async () => { throw coded(code, "so it is"); } });
  assert.equal(await gpuFault({ selfTest: async () => selfTest() }), undefined);
  assert.match(await gpuFault({ selfTest: async () => selfTest("matrix product") }), /wrongly: matrix product \(q8\)$/);
  for (const code of ["gpu-error", "device-lost", "out-of-memory"]) {
    assert.match(await gpuFault(failing(code)), /failed its self-test: so it is/);
  }
  await assert.rejects(gpuFault(failing("internal")), { code: "internal" });
});

test("under auto a GPU that computes wrongly makes place for the CPU, which loads the model again", async () => {
  browser(REAL);
  const restore = serveModel();
  const plan = { sources: [{ source: { kind: "manifest", url: "https://example.test/fake/blip.json" } }] };
  const log = [];
  const messages = [];
  const module = fakeModule({ selfTest: async () => selfTest("attention") }, log);
  await new Promise((resolve) => {
    const host = new EngineHost((message) => {
      messages.push(message);
      if (message.type === "done" || message.type === "failed") resolve();
    }, starting(module));
    host.receive({ type: "create", id: 1, create: { device: "auto", plan, dtype: { vision: "q8", text: "q8" }, cache: "auto" } });
  });
  restore();
  const info = messages.at(-1).value;
  const told = messages.filter(({ type }) => type === "event").map(({ event }) => event);
  assert.deepEqual(told, [{ type: "fallback", message: info.fallbackReason }]);
  assert.equal(info.device, "cpu");
  assert.match(info.fallbackReason, /computes wrongly: attention/);
  const loading = ["begin", "push 7", "finish vocab"];
  assert.deepEqual(log, ["open webgpu", ...loading, "free", "open cpu", ...loading]);
  const devices = messages.filter((message) => message.progress?.phase === "device").map(({ progress }) => progress);
  assert.deepEqual(devices.map(({ device }) => device), ["webgpu", "cpu"]);
  assert.equal(devices[1].fallbackReason, info.fallbackReason);
});
