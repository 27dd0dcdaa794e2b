/** What `Blip.create` would need, found out without creating anything. */

import { gpuObstacle } from "./device.js";
import { hasSimd } from "./engine.js";
import type { ModelInfo } from "./info.js";
import { weightFiles } from "./manifest.js";
import { checkTasks, modelInfo, wantedSources } from "./plan.js";
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
  const models: (ModelInfo | undefined)[] = [];
  let weights = 0;
  let busy = isCreating && (create.cache === "auto" || create.cache === "cache");
  try {
    for (const { source, tasks } of wantedSources(create)) {
      const found = await estimate(source, {
        cache: create.cache,
        dtype,
        signal: signal ?? new AbortController().signal,
        ...(tasks === undefined ? {} : { tasks }),
      });
      sum.downloadBytes += found.downloadBytes;
      sum.cachedBytes += found.cachedBytes;
      busy ||= found.busy;
      const { manifest } = found;
      models.push(manifest && modelInfo(manifest, tasks));
      weights += manifest === undefined ? 0 : weightFiles(manifest).reduce((sum, { bytes }) => sum + bytes, 0);
    }
    const known = models.filter((model) => model !== undefined);
    // What a repository is for shows when it is converted.
    if (known.length === models.length) checkTasks(known, create.tasks);
  } catch (error) {
    signal?.throwIfAborted();
    return { state: "unavailable", device, reason: toBlipError(error).message, ...nothing };
  }
  const state = sum.downloadBytes === 0 ? "available" : busy ? "downloading" : "downloadable";
  const gpuBytes = device === "cpu" ? 0 : models.includes(undefined) ? undefined : weights;
  return { state, device, ...reason, ...sum, ...(gpuBytes === undefined ? {} : { gpuBytes }), dtype };
}
