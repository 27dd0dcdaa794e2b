import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { Blip, BlipError } from "../dist/index.js";
import { coded, FakeEngine, fakeModule, FakeWorker, modelFiles, selfTest, serve, serveModel } from "./fake-engine.mjs";

const image = new Uint8Array([1, 2, 3]);
let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

/** An instance over a fake worker; `log` is what its engine was asked for. */
async function create(overrides = {}, options = {}) {
  const log = [];
  let worker;
  const createWorker = () => (worker = new FakeWorker(fakeModule(overrides, log)));
  const blip = await Blip.create({ device: "cpu", modelBase: "https://example.test/models", createWorker, ...options });
  return { blip, log, worker };
}

/** Resolves to how a promise ended, so that a hang fails by the test's own time limit. */
const outcome = (promise) => promise.then(() => "resolved", (error) =>
    error instanceof BlipError ? error.code : error.name);

test("a caption has text, score, tokens and times", async () => {
  const { blip } = await create();
  const result = await blip.caption(image, { numBeams: 3 });
  assert.equal(result.text, "a red apple");
  assert.deepEqual(result.captions, [{ text: "a red apple", logProb: -1, tokens: [1, 2] }]);
  const { encode, ...others } = result.ms;
  assert.deepEqual(others, { ground: 1, caption: 2, tokens: 3 });
  // What was encoded for the call counts as its own.
  assert.ok(encode > 0 && encode !== 1, `${encode} ms`);
});

test("the instance says what it runs on, what it loaded and what that knows", async () => {
  const { blip } = await create();
  assert.equal(blip.info.device, "cpu");
  assert.equal(blip.info.adapter.vendor, "cpu");
  assert.deepEqual(blip.info.tasks, ["caption"]);
  assert.equal(blip.info.fingerprint, "print");
  assert.deepEqual(blip.info.models, [blip.info.model]);
  assert.deepEqual(blip.info.model, { id: "fake", tasks: ["caption"], quantisation: { vision: "q8", text: "q4" }, licence: "MIT", bytes: 12 });
  assert.deepEqual(blip.info.knows.colours, ["red"]);
  assert.equal(blip.info.ms.compile, 7);
  assert.equal(blip.info.fallbackReason, undefined);
});

test("creation reports every step in order", async () => {
  const phases = [];
  await create({}, { onProgress: ({ phase }) => phases.push(phase) });
  assert.deepEqual([...new Set(phases)].sort(), ["compile", "device", "download", "load", "ready"]);
  assert.deepEqual(phases.slice(-5), ["load", "compile", "compile", "compile", "ready"]);
});

test("after a download the page asks for its storage to stay, where that asks nobody", async () => {
  const original = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  let asked = 0;
  const storage = { persist: async () => ((asked += 1), true) };
  try {
    for (const [userAgent, cache, expected] of [["Chrome", "auto", 1], ["Chrome", "none", 0], ["Firefox", "auto", 0]]) {
      asked = 0;
      Object.defineProperty(globalThis, "navigator", { configurable: true, value: { storage, userAgent } });
      await create({}, { cache });
      assert.equal(asked, expected, `${userAgent}, ${cache}`);
    }
  } finally {
    if (original) Object.defineProperty(globalThis, "navigator", original);
    else delete globalThis.navigator;
  }
});

test("compiling says how far it is", async () => {
  const steps = [];
  await create({}, { onProgress: (step) => step.phase === "compile" && steps.push(`${step.done} of ${step.total}`) });
  assert.deepEqual(steps.slice(1), ["1 of 2", "2 of 2"]);
});

test("weights reach the engine in order, and after them the vocabulary", async () => {
  const { log } = await create();
  const chosen = log.filter((line) => /^(begin|push|finish)/.test(line));
  assert.deepEqual(chosen, ["begin", "push 7", "finish vocab"]);
});

test("weights that the engine refuses end the creation with its code", async () => {
  const push = () => { throw coded("integrity", "`weights.bin` differs from its manifest"); };
  await assert.rejects(create({ push }), { code: "integrity", message: /weights\.bin/ });
});

test("a GPU that passes its self-test is kept", async () => {
  const phases = [];
  const { blip, log } = await create({}, { device: "webgpu", onProgress: ({ phase }) => phases.push(phase) });
  assert.equal(blip.info.device, "webgpu");
  assert.equal(blip.info.fallbackReason, undefined);
  assert.ok(phases.indexOf("selfTest") > phases.indexOf("load") && phases.indexOf("selfTest") < phases.indexOf("compile"));
  assert.deepEqual(log.filter((line) => line.startsWith("open")), ["open webgpu"]);
});

test("a GPU asked for that computes wrongly is refused and names the operations", async () => {
  await assert.rejects(create({ selfTest: async () => selfTest("attention") }, { device: "webgpu" }), {
    code: "gpu-error",
    message: /computes wrongly: attention \(q8\)/,
  });
});

test("a self-test can be asked for, and its mismatch is a result", async () => {
  const { blip } = await create({ selfTest: async () => selfTest("attention") });
  const { ok, checks } = await blip.selfTest();
  assert.equal(ok, false);
  assert.deepEqual(checks.map((check) => check.ok), [true, false]);
  assert.equal((await blip.caption(image)).text, "a red apple");
});

test("tokens stream in, and the stream ends with the caption", async () => {
  const { blip } = await create();
  const stream = blip.captionStream(image);
  const texts = [];
  for await (const { text, index } of stream) texts.push(`${index} ${text}`);
  assert.deepEqual(texts, ["0 a", "1 a red", "2 a red apple"]);
  assert.equal((await stream.result).text, "a red apple");
});

test("leaving the loop cancels the caption and the instance goes on working", async () => {
  const { blip, log } = await create();
  const stream = blip.captionStream(image);
  for await (const _ of stream) break;
  assert.equal(await outcome(stream.result), "AbortError");
  assert.equal((await blip.caption(new Uint8Array(5))).text, "a red apple");
  assert.ok(log.includes("abort caption bytes:3"), log.join("\n"));
});

test("an error of a stream is thrown by its loop", async () => {
  const { blip } = await create({ run: async () => { throw coded("bad-image", "cut short"); } });
  await assert.rejects(async () => { for await (const _ of blip.captionStream(image)); }, { code: "bad-image" });
});

test("aborting rejects with AbortError and stops the engine within a token", async () => {
  const { blip, log } = await create();
  const controller = new AbortController();
  const call = blip.caption(image, { signal: controller.signal, onToken: () => controller.abort() });
  await assert.rejects(call, (error) => error instanceof DOMException && error.name === "AbortError");
  await blip.caption(new Uint8Array(5));
  assert.ok(log.includes("abort caption bytes:3") && !log.includes("end caption bytes:3"), log.join("\n"));
});

test("a waiting call that is aborted never starts", async () => {
  const { blip, log } = await create();
  const controller = new AbortController();
  const first = blip.caption(image, { onToken: () => controller.abort() });
  const second = blip.caption(new Uint8Array(5), { signal: controller.signal });
  assert.equal(await outcome(second), "AbortError");
  await first;
  await blip.caption(new Uint8Array(6));
  assert.ok(!log.some((line) => line.includes("bytes:5")), log.join("\n"));
});

test("an aborted signal stops a call before anything is read", async () => {
  const { blip } = await create();
  assert.equal(await outcome(blip.caption("https://example.test/never", { signal: AbortSignal.abort() })), "AbortError");
});

test("after every error the same instance goes on working", async () => {
  let broken = true;
  const run = function (...args) {
    return broken ? Promise.reject(coded("bad-image", "truncated")) : FakeEngine.prototype.run.apply(this, args);
  };
  const { blip } = await create({ run });
  await assert.rejects(blip.caption(image), (error) => error instanceof BlipError && error.code === "bad-image");
  await assert.rejects(blip.caption(image, { numBeam: 1 }), { code: "bad-option" });
  await assert.rejects(blip.caption(7), { code: "bad-image" });
  broken = false;
  assert.equal((await blip.caption(image)).text, "a red apple");
});

test("a listener that throws rejects its own call only", async () => {
  const { blip } = await create();
  const call = blip.caption(image, { onToken: () => { throw new RangeError("mine"); } });
  await assert.rejects(call, RangeError);
  assert.equal((await blip.caption(image)).text, "a red apple");
});

test("a worker that stops rejects every pending call and the instance says disposed", async () => {
  const { blip, worker } = await create({ run: () => new Promise(() => {}) });
  const pending = [outcome(blip.caption(image)), outcome(blip.caption(image))];
  setTimeout(() => worker.onerror({ message: "Uncaught RuntimeError: unreachable" }), 20);
  assert.deepEqual(await Promise.all(pending), ["internal", "internal"]);
  assert.equal(await outcome(blip.caption(image)), "disposed");
});

test("a worker script that does not load is download-failed", async () => {
  const createWorker = () => {
    const worker = new FakeWorker(fakeModule());
    setTimeout(() => worker.onerror({}));
    return worker;
  };
  const call = Blip.create({ createWorker, modelBase: "https://example.test/models" });
  await assert.rejects(call, { code: "download-failed" });
});

test("dispose rejects what is pending, ends the worker and may be repeated", async () => {
  const { blip, worker } = await create();
  const pending = outcome(blip.caption(image));
  await blip.dispose();
  await blip[Symbol.asyncDispose]();
  assert.equal(await pending, "disposed");
  assert.ok(worker.terminated);
  assert.equal(await outcome(blip.caption(image)), "disposed");
});

test("an explicit device is followed or refused, never replaced", async () => {
  const open = async () => { throw coded("webgpu-unavailable", "no adapter"); };
  await assert.rejects(create({ open }, { device: "webgpu" }), { code: "webgpu-unavailable" });
});

test("a device of another name is bad-option before anything starts", async () => {
  await assert.rejects(create({}, { device: "gpu" }), { code: "bad-option", message: /gpu/ });
});

test("a model name that is no name, or an address that is none, is bad-option", async () => {
  await assert.rejects(create({}, { model: "a b" }), { code: "bad-option" });
  await assert.rejects(create({}, { modelUrl: "http://" }), { code: "bad-option" });
});

test("options of another kind are bad-option before anything starts", async () => {
  for (const options of [{ dtype: "q5" }, { dtype: { vision: "f64" } }, { cache: "disk" }, { tasks: ["dream"] }, { wasmUrl: "http://" }]) {
    await assert.rejects(create({}, options), { code: "bad-option" }, JSON.stringify(options));
  }
});

test("a task that the model was not trained for is refused before its weights are loaded", async () => {
  const log = [];
  const createWorker = () => new FakeWorker(fakeModule({}, log));
  const call = Blip.create({ device: "cpu", modelBase: "https://example.test/models", createWorker, tasks: ["caption", "vqa"] });
  await assert.rejects(call, { code: "task-unsupported", message: /fake was trained for caption, not for vqa/ });
  assert.ok(!log.includes("begin"), log.join("\n"));
});

test("with `tasks`, what serves none of them is dropped", async () => {
  const { log, blip } = await create({}, { tasks: ["caption"] });
  assert.ok(log.includes('finish vocab ["caption"]'), log.join("\n"));
  assert.deepEqual(blip.info.tasks, ["caption"]);
});

test("a task is not taken from a model that is there for another, even if it has it", async () => {
  restore();
  const [one, two] = [["caption", "vqa"], ["caption"]].map((tasks, nth) => modelFiles({ id: `model ${nth}`, tasks }));
  const { weights, vocab } = one;
  restore = serve({ "one.json": JSON.stringify(one.manifest), "two.json": JSON.stringify(two.manifest), "weights.bin": weights, "vocab.txt": vocab });
  const log = [];
  const model = { caption: "https://example.test/one.json", vqa: "https://example.test/two.json" };
  const call = Blip.create({ device: "cpu", createWorker: () => new FakeWorker(fakeModule({}, log)), model });
  await assert.rejects(call, { code: "task-unsupported", message: /model 1 was trained for caption, not for vqa/ });
  assert.ok(!log.includes("begin"), log.join("\n"));
});

test("models for several tasks are loaded one after the other, under one bar, and keep to their tasks", async () => {
  restore();
  const { manifest, weights, vocab } = modelFiles({ tasks: ["caption", "vqa"] });
  restore = serve({ "blip.json": JSON.stringify(manifest), "weights.bin": weights, "vocab.txt": vocab });
  const downloads = [];
  const model = { caption: "one", vqa: "two" };
  const onProgress = (step) => step.phase === "download" && downloads.push(step);
  const { blip, log } = await create({}, { model, onProgress });
  const loading = log.filter((line) => /^(begin|push|finish)/.test(line));
  // Both were trained for both: each is told its own before it is added.
  assert.deepEqual(loading, ["begin", "push 7", 'finish vocab ["caption"]', "begin", "push 7", 'finish vocab ["vqa"]']);
  assert.deepEqual(blip.info.tasks, ["caption", "vqa"]);
  assert.deepEqual(blip.info.models.map(({ tasks }) => tasks), [["caption"], ["vqa"]]);
  assert.deepEqual([...new Set(downloads.map(({ total }) => total))], [24], "the total is known from the first step on");
  assert.equal(downloads.at(-1).loaded, 24);
});

test("the worker may be made by `worker` as well as by `createWorker`", async () => {
  const worker = () => new FakeWorker(fakeModule());
  const blip = await Blip.create({ device: "cpu", modelBase: "https://example.test/models", worker });
  assert.equal((await blip.caption(image)).text, "a red apple");
});

test("a failed creation ends its worker", async () => {
  let worker;
  const createWorker = () => (worker = new FakeWorker(fakeModule({ finishLoad: async () => { throw coded("weights-shape", "x"); } })));
  await assert.rejects(Blip.create({ device: "cpu", createWorker, modelBase: "https://example.test" }), { code: "weights-shape" });
  assert.ok(worker.terminated);
});

test("creation can be cancelled", async () => {
  const controller = new AbortController();
  const call = create({ finishLoad: () => new Promise(() => {}) }, { signal: controller.signal, onProgress: () => controller.abort() });
  assert.equal(await outcome(call), "AbortError");
});
