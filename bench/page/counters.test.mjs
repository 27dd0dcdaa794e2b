/** Counters over fake WebGPU objects: `node --test bench/`. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { difference, installCounters } from "./counters.mjs";

/** Interfaces as a browser has them: methods on prototypes. */
function fakeWebGpu() {
  class GPUBuffer {
    constructor(size) {
      this.size = size;
    }
    mapAsync() {
      return Promise.resolve();
    }
    destroy() {}
  }
  class GPUDevice {
    createBuffer({ size }) {
      if (size > 1000) throw new RangeError("too large");
      return new GPUBuffer(size);
    }
    createBindGroup(descriptor) {
      return descriptor;
    }
    createComputePipeline() {}
    createComputePipelineAsync() {
      return Promise.resolve("pipeline");
    }
  }
  class GPUQueue {
    constructor() {
      this.work = [];
    }
    submit(buffers) {
      this.work.push(...buffers);
    }
    writeBuffer() {}
  }
  class GPUComputePassEncoder {
    dispatchWorkgroups() {}
  }
  return { GPUBuffer, GPUDevice, GPUQueue, GPUComputePassEncoder };
}

test("calls are counted and still do what they did", async () => {
  const scope = fakeWebGpu();
  const snapshot = installCounters(scope);
  const [device, queue, pass] = [new scope.GPUDevice(), new scope.GPUQueue(), new scope.GPUComputePassEncoder()];
  assert.equal(device.createBindGroup("group"), "group");
  assert.equal(await device.createComputePipelineAsync({}), "pipeline");
  device.createComputePipeline({});
  pass.dispatchWorkgroups(1, 2, 3);
  queue.writeBuffer();
  queue.submit(["a", "b"]);
  assert.deepEqual(queue.work, ["a", "b"]);
  const { bindGroups, pipelines, dispatches, writeBuffer, submits } = snapshot();
  assert.deepEqual({ bindGroups, pipelines, dispatches, writeBuffer, submits }, { bindGroups: 1, pipelines: 2, dispatches: 1, writeBuffer: 1, submits: 1 });
});

test("a destroyed buffer is no longer alive, and not twice", () => {
  const scope = fakeWebGpu();
  const snapshot = installCounters(scope);
  const device = new scope.GPUDevice();
  const first = device.createBuffer({ size: 100 });
  device.createBuffer({ size: 40 });
  first.destroy();
  first.destroy();
  const { createBuffer, bytes, liveBytes, peakBytes } = snapshot();
  assert.deepEqual({ createBuffer, bytes, liveBytes, peakBytes }, { createBuffer: 2, bytes: 140, liveBytes: 40, peakBytes: 140 });
});

test("a buffer that was refused counts nothing", () => {
  const scope = fakeWebGpu();
  const snapshot = installCounters(scope);
  assert.throws(() => new scope.GPUDevice().createBuffer({ size: 2000 }), RangeError);
  assert.equal(snapshot().liveBytes, 0);
});

test("a difference is a share of each step", async () => {
  const scope = fakeWebGpu();
  const snapshot = installCounters(scope);
  const buffer = new scope.GPUDevice().createBuffer({ size: 8 });
  const before = snapshot();
  await buffer.mapAsync();
  new scope.GPUQueue().submit([]);
  new scope.GPUQueue().submit([]);
  const { mapAsync, submits, createBuffer } = difference(before, snapshot(), 2);
  assert.deepEqual({ mapAsync, submits, createBuffer }, { mapAsync: 0.5, submits: 1, createBuffer: 0 });
});

test("a browser without WebGPU is no error", () => {
  assert.equal(installCounters({})().submits, 0);
});
