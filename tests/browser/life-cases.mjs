/** How instances begin and end: a device that is lost, memory that is given back, scripts of another origin. */

import { Blip } from "/pkg/index.js";
import { ensure, equal, instance, rejects, sampleBytes } from "./checks.mjs";

/** A worker whose GPU can be lost. */
function fragileWorker() {
  const scripts = ["/lost-worker.mjs", "/pkg/worker.js"].map((path) => `import ${JSON.stringify(new URL(path, location.href).href)};`);
  return new Worker(URL.createObjectURL(new Blob(scripts, { type: "text/javascript" })), { type: "module" });
}

/** Destroys every device of such workers. */
function loseDevice() {
  const channel = new BroadcastChannel("gpu");
  channel.postMessage("lose");
  channel.close();
}

/** What an instance tells, by type; `next` waits for the first of a type. */
function listen(blip) {
  const events = [];
  const next = (type) => new Promise((resolve) => blip.addEventListener(type, resolve, { once: true }));
  for (const type of ["devicelost", "devicerestored", "fallback"]) blip.addEventListener(type, ({ type }) => events.push(type));
  return { events, next };
}

/** Buffers of this thread's GPU devices that were created and not destroyed, and what was launched. */
function countBuffers() {
  const live = new Map();
  const counts = { created: 0, destroyed: 0, dispatches: 0 };
  const { createBuffer, destroy: destroyDevice } = GPUDevice.prototype;
  const { destroy } = GPUBuffer.prototype;
  const { dispatchWorkgroups } = GPUComputePassEncoder.prototype;
  GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...sizes) {
    counts.dispatches++;
    dispatchWorkgroups.apply(this, sizes);
  };
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    live.set(buffer, this);
    counts.created++;
    return buffer;
  };
  GPUBuffer.prototype.destroy = function () {
    if (live.delete(this)) counts.destroyed++;
    destroy.call(this);
  };
  GPUDevice.prototype.destroy = function () {
    for (const [buffer, device] of live) if (device === this) live.delete(buffer);
    destroyDevice.call(this);
  };
  const restore = () => {
    Object.assign(GPUDevice.prototype, { createBuffer, destroy: destroyDevice });
    Object.assign(GPUBuffer.prototype, { destroy });
    Object.assign(GPUComputePassEncoder.prototype, { dispatchWorkgroups });
  };
  return { counts, live, restore };
}

const WEBGPU = {
  async "a device that is lost in the middle of a caption is replaced, and the caption is the same"() {
    const bytes = await sampleBytes();
    const blip = await Blip.create({ device: "webgpu", worker: fragileWorker });
    const { events } = listen(blip);
    const encoded = await blip.encode(bytes);
    const { text } = await blip.caption(encoded);
    let lost = false;
    const onToken = () => {
      if (!lost) loseDevice();
      lost = true;
    };
    const pending = [blip.caption(bytes, { onToken }), blip.caption(encoded), blip.caption(bytes)];
    equal((await Promise.all(pending)).map((result) => result.text), [text, text, text]);
    equal(events, ["devicelost", "devicerestored"]);
    equal(blip.info.device, "webgpu");
    // The image that was encoded before is still usable, on the new device.
    equal((await blip.caption(encoded)).text, text);
    encoded.dispose();
    equal((await blip.memory()).pictures, 0, "the pictures that are left");
    await blip.dispose();
  },
  async "a loss is told while nothing runs"() {
    const bytes = await sampleBytes();
    const blip = await Blip.create({ device: "webgpu", worker: fragileWorker });
    const { events, next } = listen(blip);
    const told = next("devicelost");
    loseDevice();
    ensure((await told).message.includes("lost"), "the event does not say what happened");
    ensure((await blip.caption(bytes)).text.length > 0, "no caption");
    equal(events, ["devicelost", "devicerestored"]);
    await blip.dispose();
  },
  async "dispose gives every buffer of the GPU back, in the page's own thread"() {
    const { counts, live, restore } = countBuffers();
    try {
      const blip = await Blip.create({ device: "webgpu", worker: false });
      await blip.caption(await sampleBytes());
      const used = live.size;
      ensure(used > 10, `only ${used} buffers were counted`);
      await blip.dispose();
      equal(live.size, 0, "the buffers that are left");
      console.info(`webgpu: ${JSON.stringify(counts)}, ${used} alive before dispose`);
    } finally {
      restore();
    }
  },
  async "a creation that is aborted while it compiles stops there, in the page's own thread, and gives everything back"() {
    const { counts, live, restore } = countBuffers();
    try {
      const compile = (then) => (step) => step.phase === "compile" && step.done === 1 && then();
      let begun = 0;
      const onFirst = compile(() => (begun = counts.dispatches));
      await (await Blip.create({ device: "webgpu", worker: false, onProgress: onFirst })).dispose();
      const whole = counts.dispatches - begun;
      const controller = new AbortController();
      const onProgress = compile(() => {
        begun = counts.dispatches;
        controller.abort();
      });
      const error = await Blip.create({ device: "webgpu", worker: false, signal: controller.signal, onProgress }).then(() => null, (error) => error);
      equal(error?.name, "AbortError", "what it ended with");
      // The engine ends its token, and is freed then.
      const end = performance.now() + 120_000;
      while (live.size > 0 && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
      equal(live.size, 0, "the buffers that are left");
      const after = counts.dispatches - begun;
      // An encoding and a token, which is about half of it all, are one step to the engine.
      ensure(whole > 100 && after < (whole * 2) / 3, `${after} launches after the abort, ${whole} in all`);
      console.info(`webgpu: ${after} launches after the abort of ${whole} while compiling`);
    } finally {
      restore();
    }
  },
  async "an instance after another in the same thread has a GPU of its own"() {
    const bytes = await sampleBytes();
    const texts = [];
    for (let round = 0; round < 2; round++) {
      const blip = await Blip.create({ device: "webgpu", worker: false });
      texts.push((await blip.caption(bytes)).text);
      await blip.dispose();
      await rejects(() => blip.caption(bytes), "disposed");
    }
    equal(texts[1], texts[0]);
  },
};

const PLAIN = {
  async "scripts of another origin start their worker through one of the page's"() {
    const { Blip: Far } = await import(`${window.OTHER_ORIGIN}pkg/index.js`);
    const blip = await Far.create({ device: "cpu" });
    const bytes = await sampleBytes();
    equal((await blip.caption(bytes)).text, (await (await instance("cpu")).caption(bytes)).text);
    await blip.dispose();
  },
  async "memory of the module goes with an instance in the page's own thread"() {
    const before = performance.memory?.totalJSHeapSize;
    for (let round = 0; round < 3; round++) {
      const blip = await Blip.create({ device: "cpu", worker: false });
      ensure((await blip.memory()).wasmBytes > 1e6, "the memory of the module is not counted");
      await blip.dispose();
    }
    ensure(before === undefined || performance.memory.totalJSHeapSize < before + 500e6, "memory piles up");
  },
  async "availability says what create would need, and creates nothing"() {
    await Blip.cache.delete();
    const before = await Blip.availability({ device: "cpu" });
    ensure(before.state === "downloadable" && before.downloadBytes > 1e6 && before.cachedBytes === 0, JSON.stringify(before));
    equal(before.gpuBytes, 0, "what it takes on the GPU");
    const fewer = await Blip.availability({ device: "cpu", tasks: ["caption"] });
    ensure(fewer.state === "downloadable" && fewer.downloadBytes < before.downloadBytes - 1e6, JSON.stringify(fewer));
    const other = await Blip.availability({ device: "cpu", tasks: ["nlvr2"] });
    ensure(other.state === "unavailable" && /not for nlvr2/.test(other.reason), JSON.stringify(other));
    equal(await Blip.cache.list(), [], "what is in the cache");
    const { state, device, reason } = await Blip.availability();
    equal([device, state], ["cpu", "downloadable"]);
    ensure(reason.length > 0, "there is no reason");
    equal((await Blip.availability({ device: "webgpu" })).state, "unavailable");
    equal((await Blip.availability({ device: "cpu", model: "none" })).state, "unavailable");
    await (await Blip.create({ device: "cpu" })).dispose();
    const after = await Blip.availability({ device: "cpu" });
    equal([after.state, after.downloadBytes, after.cachedBytes], ["available", 0, before.downloadBytes]);
    const without = await Blip.availability({ device: "cpu", cache: "none" });
    equal([without.state, without.downloadBytes], ["downloadable", before.downloadBytes], "without a cache");
  },
};

export const CASES = { webgpu: WEBGPU, plain: PLAIN };
