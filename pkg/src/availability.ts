/** What `Blip.create` would need, found out without creating anything. */

import { gpuObstacle } from "./device.js";
import { hasSimd } from "./engine.js";
import { type CreateMessage, toBlipError } from "./protocol.js";
import type { Availability } from "./results.js";
import { estimate } from "./store.js";

/**
 * The state of the models of `create`; `isCreating` says whether this page is loading them now.
 *
 * @throws the reason of `signal`; everything else is an answer.
 */
export async function availability(create: CreateMessage, isCreating: boolean, signal?: AbortSignal): Promise<Availability> {
  const { dtype } = create;
  const nothing = { downloadBytes: 0, cachedBytes: 0, dtype };
  const obstacle = create.device === "cpu" ? undefined : await gpuObstacle(create.device === "webgpu");
  const device = create.device === "cpu" || (create.device === "auto" && obstacle !== undefined) ? "cpu" : "webgpu";
  const reason = obstacle === undefined ? {} : { reason: obstacle };
  signal?.throwIfAborted();
  if (!hasSimd()) return { state: "unavailable", device, reason: "this browser has no WebAssembly SIMD", ...nothing };
  if (device === "webgpu" && obstacle !== undefined) return { state: "unavailable", device, ...reason, ...nothing };
  const sum = { downloadBytes: 0, cachedBytes: 0 };
  let busy = isCreating;
  try {
    for (const { source, tasks = create.tasks } of create.plan.sources) {
      const found = await estimate(source, {
        dtype,
        signal: signal ?? new AbortController().signal,
        ...(tasks === undefined ? {} : { tasks }),
      });
      sum.downloadBytes += found.downloadBytes;
      sum.cachedBytes += found.cachedBytes;
      busy ||= found.busy;
    }
  } catch (error) {
    signal?.throwIfAborted();
    return { state: "unavailable", device, reason: toBlipError(error).message, ...nothing };
  }
  const state = sum.downloadBytes === 0 ? "available" : busy ? "downloading" : "downloadable";
  return { state, device, ...reason, ...sum, dtype };
}
