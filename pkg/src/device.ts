/** Which device computes: an explicit wish is followed or refused, `auto` decides and says why. */

import type { Engine, EngineModule } from "./engine.js";
import type { SelfTest } from "./info.js";
import { type BlipErrorCode, toBlipError } from "./protocol.js";

/** An opened engine and, where `auto` did not take the GPU, the reason. */
export interface OpenedEngine {
  readonly engine: Engine;
  readonly device: "webgpu" | "cpu";
  readonly fallbackReason?: string;
}

/**
 * Opens the device asked for; `auto` takes WebGPU where there is a real GPU, the CPU otherwise.
 *
 * @throws whatever the engine rejects with: `webgpu-unavailable`, `feature-missing`, …
 */
export async function openEngine(module: EngineModule, choice: "auto" | "webgpu" | "cpu"): Promise<OpenedEngine> {
  if (choice !== "auto") return { engine: await module.Engine.open(choice), device: choice };
  const opened = await openGpu(module);
  if (typeof opened !== "string") return { engine: opened, device: "webgpu" };
  return { engine: await module.Engine.open("cpu"), device: "cpu", fallbackReason: opened };
}

/** What a GPU or its driver can be at fault for; anything else is not made better by another device. */
const GPU_FAULTS: readonly BlipErrorCode[] = ["gpu-error", "out-of-memory", "device-lost"];

/** Why the GPU under an engine with a model must not be used; nothing when it computes as it should. */
export async function gpuFault(engine: Engine): Promise<string | undefined> {
  let test: SelfTest;
  try {
    test = JSON.parse(await engine.selfTest()) as SelfTest;
  } catch (thrown) {
    const error = toBlipError(thrown);
    if (!GPU_FAULTS.includes(error.code)) throw thrown;
    return `the GPU failed its self-test: ${error.message}`;
  }
  if (test.ok) return undefined;
  const wrong = test.checks.filter((check) => !check.ok).map(({ name, format }) => `${name} (${format})`);
  return `the GPU failed its self-test: it computes wrongly: ${wrong.join(", ")}`;
}

/** The engine on the GPU, or why the GPU cannot be used. */
async function openGpu(module: EngineModule): Promise<Engine | string> {
  const obstacle = await gpuObstacle();
  if (obstacle !== undefined) return obstacle;
  try {
    return await module.Engine.open("webgpu");
  } catch (thrown) {
    const error = toBlipError(thrown);
    if (error.code !== "webgpu-unavailable" && error.code !== "feature-missing") throw thrown;
    return error.message;
  }
}

/**
 * Why WebGPU cannot be taken; an adapter in software counts only where `software` says so. Looks for what
 * `crate/src/device/browser.rs` looks for, so that both say the same of a browser.
 */
export async function gpuObstacle(software = false): Promise<string | undefined> {
  // Missing in browsers without WebGPU and on insecure origins, whatever the type says.
  const gpu = (globalThis.navigator as Partial<Navigator> | undefined)?.gpu;
  if (gpu === undefined) return "this browser offers no WebGPU here (it needs a secure context, too)";
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return `the browser refused a WebGPU adapter: ${toBlipError(error).message}`;
  }
  if (adapter === null) return "the browser found no WebGPU adapter";
  if (!adapter.features.has("timestamp-query")) return "the GPU adapter lacks the WebGPU feature `timestamp-query`";
  // Older browsers have the flag on the adapter itself, and some no description at all.
  const { info, isFallbackAdapter: isFallback } = adapter as OlderAdapter;
  const { vendor = "", architecture = "", isFallbackAdapter = isFallback } = info ?? {};
  const name = `${vendor} ${architecture}`.trim();
  if (isFallbackAdapter === true && !software) {
    return `the only WebGPU adapter is a software one${name === "" ? "" : ` (${name})`}`;
  }
  return undefined;
}

/** What an adapter may lack or have instead. */
interface OlderAdapter {
  readonly info?: Partial<GPUAdapterInfo>;
  readonly isFallbackAdapter?: boolean;
}
