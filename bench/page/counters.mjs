/**
 * What a page asks of WebGPU, counted from outside: the methods of its objects are wrapped before the
 * engine starts, so no engine's own bookkeeping is involved.
 */

/** Interface and method of every call that counts by number alone, with the name it is counted under. */
const CALLS = [
  ["GPUDevice", "createComputePipeline", "pipelines"],
  ["GPUDevice", "createComputePipelineAsync", "pipelines"],
  ["GPUDevice", "createBindGroup", "bindGroups"],
  ["GPUQueue", "submit", "submits"],
  ["GPUQueue", "writeBuffer", "writeBuffer"],
  ["GPUComputePassEncoder", "dispatchWorkgroups", "dispatches"],
  ["GPUComputePassEncoder", "dispatchWorkgroupsIndirect", "dispatches"],
  ["GPUBuffer", "mapAsync", "mapAsync"],
  ["GPUCommandEncoder", "copyBufferToBuffer", "copies"],
];

/** Wraps the WebGPU interfaces in `scope`; returns a function that takes a snapshot of the counts. */
export function installCounters(scope = globalThis) {
  const counts = { createBuffer: 0, bytes: 0, liveBytes: 0, peakBytes: 0 };
  for (const [, , name] of CALLS) counts[name] = 0;

  const wrap = (type, method, before) => {
    const prototype = scope[type]?.prototype;
    const original = prototype?.[method];
    if (!original) return;
    prototype[method] = function (...values) {
      before.call(this, ...values);
      return original.apply(this, values);
    };
  };

  for (const [type, method, name] of CALLS) wrap(type, method, () => counts[name]++);

  // Sizes are kept beside the buffers, and forgotten at the first `destroy`. A buffer that nobody
  // destroys counts as alive: when the collector takes it is nothing a page can rely on.
  const sizes = new WeakMap();
  const device = scope.GPUDevice?.prototype;
  if (device?.createBuffer) {
    const original = device.createBuffer;
    device.createBuffer = function (descriptor) {
      const buffer = original.call(this, descriptor);
      sizes.set(buffer, descriptor.size);
      counts.createBuffer++;
      counts.bytes += descriptor.size;
      counts.liveBytes += descriptor.size;
      counts.peakBytes = Math.max(counts.peakBytes, counts.liveBytes);
      return buffer;
    };
  }
  wrap("GPUBuffer", "destroy", function () {
    counts.liveBytes -= sizes.get(this) ?? 0;
    sizes.delete(this);
  });

  return () => ({ ...counts });
}

/** What happened between two snapshots, divided by `steps`. */
export function difference(before, after, steps = 1) {
  return Object.fromEntries(Object.keys(after).map((name) => [name, (after[name] - before[name]) / steps]));
}
