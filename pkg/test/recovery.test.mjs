import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { coded, FakeEngine, selfTest, serveModel, trap } from "./fake-engine.mjs";
import { create, image, outcome, settle } from "./instance.mjs";

const original = Object.getOwnPropertyDescriptor(globalThis, "navigator");
let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => {
  restore();
  if (original) Object.defineProperty(globalThis, "navigator", original);
  else delete globalThis.navigator;
});

/** A browser with a GPU as long as `gpu.there`. */
function browser(gpu) {
  const info = { vendor: "acme", architecture: "one", isFallbackAdapter: false };
  const requestAdapter = async () => (gpu.there ? { info, features: new Set(["timestamp-query"]) } : null);
  Object.defineProperty(globalThis, "navigator", { value: { gpu: { requestAdapter } }, configurable: true });
}

const lost = () => coded("device-lost", "the GPU device was lost");

/** An instance on a GPU, and what it tells. */
async function onGpu(overrides = {}, options = {}) {
  const instance = await create(overrides, { device: "webgpu", ...options });
  const events = [];
  for (const type of ["devicelost", "devicerestored", "fallback"]) {
    instance.blip.addEventListener(type, (event) => events.push(`${event.type}: ${event.message}`));
  }
  return { ...instance, events };
}

test("a lost device is replaced, the call is made again, and listeners hear of it", async () => {
  const { blip, log, engines, events } = await onGpu();
  engines[0].fault = lost();
  assert.equal((await blip.caption(image())).text, "a red apple");
  assert.equal(engines.length, 2);
  assert.ok(engines[0].freed);
  assert.deepEqual(log.filter((line) => /^(open|begin|push|finish)/.test(line)), [
    "open webgpu", "begin", "push 7", "finish vocab", "open webgpu", "begin", "push 7", "finish vocab",
  ]);
  assert.deepEqual(events, ["devicelost: the GPU device was lost", "devicerestored: the model is on the GPU again"]);
});

test("a reading that fails just before the browser tells of the loss counts as one; without a loss it is an error", async () => {
  const { blip, engines, events } = await onGpu();
  const [engine] = engines;
  engine.fault = coded("gpu-error", "the staging buffer could not be mapped");
  setTimeout(() => engine.lose("the GPU device was lost"), 20);
  assert.equal((await blip.caption(image())).text, "a red apple");
  assert.equal(engines.length, 2);
  assert.deepEqual(events, ["devicelost: the GPU device was lost", "devicerestored: the model is on the GPU again"]);
  engines[1].fault = coded("gpu-error", "the staging buffer could not be mapped");
  await assert.rejects(blip.caption(image()), { code: "gpu-error" });
  assert.equal(engines.length, 2);
});

test("encoded images outlive the device: they are encoded again when they are used", async () => {
  const { blip, engines, log } = await onGpu();
  const [one, two] = await blip.encode([image(9), image(10)]);
  engines[0].fault = lost();
  assert.equal((await blip.ask(one, "what?")).picture, "bytes:9");
  assert.equal(engines[1].pictures.size, 1, "the other one is not needed yet");
  assert.equal((await blip.ask(two, "what?")).picture, "bytes:10");
  assert.equal(log.filter((line) => /^encode.*bytes:9 /.test(line)).length, 2);
  one.dispose();
  two.dispose();
  await settle();
  assert.equal(engines[1].pictures.size, 0);
});

test("an encoded image that is in a list twice is encoded once more, and freed", async () => {
  const { blip, engines } = await onGpu();
  const [one, two] = await blip.encode([image(9), image(10)]);
  // The first ones set the pace: several are encoded together.
  await blip.classify([image(3), image(4), image(5)], ["a"]);
  engines[0].fault = lost();
  const labels = await blip.classify([one, two, one, one], ["a"]);
  assert.deepEqual(labels.map(([{ picture }]) => picture), ["bytes:9", "bytes:10", "bytes:9", "bytes:9"]);
  one.dispose();
  two.dispose();
  await settle();
  assert.equal(engines[1].pictures.size, 0);
});

test("every call in flight is made again, each once", async () => {
  let runs = 0;
  const { blip, engines, events } = await onGpu({
    run(...args) {
      // In the middle of the second one.
      if (++runs === 2) setTimeout(() => (engines[0].fault = lost()), 1);
      return FakeEngine.prototype.run.apply(this, args);
    },
  });
  const calls = [3, 4, 5, 6].map((size) => blip.caption(image(size)));
  assert.deepEqual((await Promise.all(calls)).map(({ picture }) => picture), ["bytes:3", "bytes:4", "bytes:5", "bytes:6"]);
  assert.equal(events.filter((event) => event.startsWith("devicelost")).length, 1);
});

test("a loss is told while nothing runs, and once; the next call finds another engine", async () => {
  const { blip, engines, events } = await onGpu();
  engines[0].lose("unplugged");
  await settle();
  assert.deepEqual(events, ["devicelost: unplugged"]);
  assert.equal((await blip.caption(image())).text, "a red apple");
  assert.deepEqual(events, ["devicelost: unplugged", "devicerestored: the model is on the GPU again"]);
  assert.equal(engines.length, 2);
});

test("a call that waits for a lost device is not waited for", async () => {
  let hangs = true;
  const run = function (...args) {
    if (!hangs) return FakeEngine.prototype.run.apply(this, args);
    hangs = false;
    return new Promise(() => {});
  };
  const { blip, engines, events } = await onGpu({ run });
  const call = blip.caption(image());
  await settle();
  engines[0].lose("unplugged");
  assert.equal((await call).text, "a red apple");
  assert.equal(events.length, 2);
});

test("a second loss in a row is the call's error, and the instance tries again with the next one", async () => {
  let broken = true;
  const run = function (...args) {
    return broken ? Promise.reject(lost()) : FakeEngine.prototype.run.apply(this, args);
  };
  const { blip, events } = await onGpu({ run });
  await assert.rejects(blip.caption(image()), { code: "device-lost" });
  assert.equal(events.filter((event) => event.startsWith("devicelost")).length, 2);
  broken = false;
  assert.equal((await blip.caption(image())).text, "a red apple");
});

test("without another device the calls fail with the loss, and say why", async () => {
  let there = true;
  const open = async () => {
    if (!there) throw coded("webgpu-unavailable", "no adapter");
  };
  const { blip, engines } = await onGpu({ open });
  there = false;
  engines[0].fault = lost();
  const error = { code: "device-lost", message: /was lost; it cannot be opened again: no adapter/ };
  await assert.rejects(blip.caption(image()), error);
  await assert.rejects(blip.caption(image()), error);
  there = true;
  assert.equal((await blip.caption(image())).text, "a red apple");
});

test("under auto the CPU takes over where there is no GPU any more, and the instance says so", async () => {
  const gpu = { there: true };
  browser(gpu);
  const { blip, engines, events } = await onGpu({}, { device: "auto" });
  assert.equal(blip.info.device, "webgpu");
  gpu.there = false;
  engines[0].fault = lost();
  assert.equal((await blip.caption(image())).text, "a red apple");
  assert.equal(blip.info.device, "cpu");
  assert.match(blip.info.fallbackReason, /no WebGPU adapter/);
  assert.deepEqual(events.map((event) => event.split(":")[0]), ["devicelost", "devicerestored", "fallback"]);
});

test("a GPU that computes wrongly after it was lost is not taken back", async () => {
  browser({ there: true });
  let healthy = true;
  const { blip, engines } = await onGpu({ selfTest: async () => (healthy ? selfTest() : selfTest("attention")) }, { device: "auto" });
  healthy = false;
  engines[0].fault = lost();
  assert.equal((await blip.caption(image())).text, "a red apple");
  assert.equal(blip.info.device, "cpu");
  assert.match(blip.info.fallbackReason, /computes wrongly/);
});

test("a module that traps is left behind, unfreed, and another one answers", async () => {
  let traps = 1;
  const given = [];
  const run = function (...args) {
    return traps-- > 0 ? Promise.reject(trap()) : FakeEngine.prototype.run.apply(this, args);
  };
  const { blip, engines } = await create({ run, __destroy_into_raw: () => given.push(1) });
  assert.equal((await blip.caption(image())).text, "a red apple");
  assert.deepEqual(engines.map(({ freed }) => freed), [false, false]);
  assert.equal(given.length, 1, "the collector must not free it either");
  assert.equal(blip.info.device, "cpu");
});

test("a call that traps every module fails, and the instance goes on", async () => {
  const one = function (task, request, picture, onEvent) {
    if (picture === "bytes:7") throw trap();
    return FakeEngine.prototype.one.call(this, task, request, picture, onEvent);
  };
  const { blip } = await create({ one });
  const outcomes = await Promise.all([outcome(blip.caption(image(7))), outcome(blip.caption(image(3)))]);
  assert.deepEqual(outcomes, ["internal", "resolved"]);
  assert.equal((await blip.caption(image(3))).text, "a red apple");
});

test("dispose ends a recovery", async () => {
  let first = true;
  const finishLoad = () => {
    if (!first) return new Promise(() => {});
    first = false;
  };
  const { blip, engines } = await onGpu({ finishLoad });
  engines[0].fault = lost();
  const call = outcome(blip.caption(image()));
  await settle();
  await blip.dispose();
  assert.equal(await call, "disposed");
});

test("a creation that takes the CPU instead of the GPU tells so; one that was told to does not", async () => {
  browser({ there: false });
  for (const [device, expected] of [["auto", [/no WebGPU adapter/]], ["cpu", []]]) {
    const { blip } = await create({}, { device });
    const heard = [];
    blip.addEventListener("fallback", ({ message }) => heard.push(message));
    await settle();
    assert.equal(heard.length, expected.length, device);
    expected.forEach((pattern, index) => assert.match(heard[index], pattern));
    assert.equal(blip.info.fallbackReason, heard[0]);
  }
});

test("events of the creation are heard by listeners that are added right after it", async () => {
  browser({ there: true });
  const { blip, worker } = await create();
  worker.onmessage({ data: { type: "event", event: { type: "quota", message: "early" } } });
  const heard = [];
  const listener = ({ message }) => heard.push(message);
  blip.addEventListener("quota", listener);
  await settle(1);
  worker.onmessage({ data: { type: "event", event: { type: "quota", message: "late" } } });
  blip.removeEventListener("quota", listener);
  worker.onmessage({ data: { type: "event", event: { type: "quota", message: "unheard" } } });
  assert.deepEqual(heard, ["early", "late"]);
});
