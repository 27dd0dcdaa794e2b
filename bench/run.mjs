/**
 * Measures our engine and onnxruntime-web in one browser, in turns, and writes what it saw.
 *
 *   CHROMIUM=… node run.mjs PLAN.json RESULT.json
 *
 * PLAN is `{quick, mounts}` from `cargo xtask bench`; bench/README.md describes RESULT. A part that
 * fails is reported under `failures` and the others go on.
 */

import { readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import { chromium } from "playwright-core";
import { difference } from "./page/counters.mjs";
import { quiet, watchOthers } from "./processors.mjs";
import { serve } from "./server.mjs";
import { runtimeSizes } from "./sizes.mjs";

const BROWSER_FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
];
/** `BLIP_BENCH_GPU=1` measures the machine's own adapter instead of the software one. */
const SOFTWARE_GPU = process.env.BLIP_BENCH_GPU ? [] : ["--use-webgpu-adapter=swiftshader"];
/** More of the processors than this used by others, and a timing does not count. */
const DISTURBED = 0.15;
/** Seconds to wait for a quiet machine before each part, unless the environment says otherwise. */
const QUIET_SECONDS = Number(process.env.BLIP_BENCH_QUIET_S ?? 120);
/** The longest that one call into a page may take. */
const CALL_LIMIT_MS = 900_000;
const TOKENS = 20;
/** Captions of two lengths on the GPU; what the longer one asks for more is what its extra tokens cost. */
const [SHORT, LONG] = [4, 12];

const [planPath, resultPath] = process.argv.slice(2);
const plan = JSON.parse(readFileSync(planPath, "utf8"));
const rounds = plan.quick ? 2 : 6;
const result = { timings: {}, cold: {}, values: {}, counters: {}, failures: {}, notes: [], others: [] };

result.date = new Date().toISOString();
Object.assign(result.values, runtimeSizes(plan.mounts["/pkg/"], plan.mounts["/onnxruntime/"]));

const site = await serve(plan.mounts);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  // The new headless mode is a flag of the ordinary browser; Playwright's own switch means another program.
  headless: false,
  args: [...BROWSER_FLAGS, ...SOFTWARE_GPU],
});
result.machine = {
  processor: os.cpus()[0]?.model.trim() ?? "unknown",
  cores: os.cpus().length,
  memoryGiB: Math.round(os.totalmem() / 2 ** 30),
  system: `${os.type()} ${os.machine()}`,
  browser: `Chromium ${browser.version()}`,
};

/** A page in a process of its own, with `call(method, argument)`. */
async function openPage(address) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(CALL_LIMIT_MS);
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(error.message));
  const crashed = new Promise((_, reject) => page.on("crash", () => reject(new Error("the page crashed"))));
  crashed.catch(() => {});
  await page.goto(new URL(address, site.url).href);
  const ready = page.waitForFunction(() => window.bench, null, { timeout: 30_000 });
  await ready.catch(() => {
    throw new Error(`${address} did not start: ${problems.join("; ").slice(0, 500)}`);
  });
  const call = async (method, argument) => {
    await page.bringToFront();
    const limit = new Promise((_, reject) => setTimeout(reject, CALL_LIMIT_MS, new Error(`${method} took too long`)).unref());
    return Promise.race([page.evaluate(([name, value]) => window.bench[name](value), [method, argument]), crashed, limit]);
  };
  return { call, close: () => context.close() };
}

const ours = () => openPage("bench/page/page.html");
const theirs = () => openPage("bench/ort/page.html");

/** Calls a page and remembers the times it returns as `name.part`, with what others used meanwhile. */
async function measure(page, name, method, argument, { cold = false } = {}) {
  const others = watchOthers();
  const times = await page.call(method, argument);
  const otherCores = others();
  const target = cold ? result.cold : result.timings;
  for (const [key, ms] of Object.entries(times)) {
    if (ms !== null) (target[`${name}.${key}`] ??= []).push({ ms, otherCores });
  }
  if (otherCores !== null) result.others.push(otherCores);
  progress(`${name}${cold ? " (cold)" : ""}: ${describe(times)}${otherCores > DISTURBED ? `, disturbed: ${otherCores.toFixed(2)} cores` : ""}`);
  return otherCores === null || otherCores <= DISTURBED;
}

const describe = (times) => Object.entries(times).filter(([, ms]) => ms !== null).map(([key, ms]) => `${key} ${ms.toFixed(1)}`).join(", ");
const progress = (text) => console.log(`${(performance.now() / 1000).toFixed(0).padStart(5)} s  ${text}`);

/** Runs one part; what it throws becomes the reason why its rows cannot be judged. */
async function part(name, body) {
  if (!(await quiet(DISTURBED, QUIET_SECONDS))) result.notes.push(`${name}: the machine did not become quiet within ${QUIET_SECONDS} s`);
  progress(`-- ${name}`);
  const pages = [];
  const keep = async (opening) => {
    const page = await opening;
    pages.push(page);
    return page;
  };
  try {
    return await body(keep);
  } catch (error) {
    result.failures[name] = error.message.split("\n")[0].slice(0, 500);
    progress(`${name} failed: ${result.failures[name]}`);
    return null;
  } finally {
    for (const page of pages) await page.close();
    writeFileSync(resultPath, JSON.stringify(result));
  }
}

/** Rounds of calls in turns, A B A B; a round in which others were at work is repeated, as often again at most. */
async function inTurns(calls) {
  let wanted = rounds;
  for (let round = 0; round < wanted && round < 2 * rounds; round++) {
    let clean = true;
    for (const call of calls) clean = (await call()) && clean;
    if (!clean) wanted++;
  }
}

/** The engine on the CPU, 8 bit, 384 px, beside onnxruntime-web's int8 on one thread. */
async function cpu() {
  const their = await part("cpu.theirs", async () => {
    const page = await theirs();
    const { parts, heap, version } = await page.call("load", { provider: "wasm", precision: "int8", size: 384, parts: ["vision", "crosskv", "step"] });
    result.values["cpu.theirs.heap"] = heap;
    result.values["cpu.theirs.loadMs"] = Object.values(parts).reduce((sum, { ms }) => sum + ms, 0);
    result.values["theirs.version"] = version;
    await measure(page, "cpu.theirs", "caption", { tokens: TOKENS }, { cold: true });
    return page;
  });
  const our = await part("cpu.ours", async () => {
    const page = await ours();
    const { heap, loadMs, openMs } = await page.call("load", { device: "cpu", model: "ours-q8-384", warmUp: false });
    result.values["cpu.ours.heap"] = heap;
    result.values["cpu.ours.loadMs"] = loadMs + openMs;
    await measure(page, "cpu.ours", "caption", { tokens: TOKENS }, { cold: true });
    return page;
  });
  await part("cpu.turns", () =>
    inTurns([
      ...(our ? [() => measure(our, "cpu.ours", "caption", { tokens: TOKENS })] : []),
      ...(their ? [() => measure(their, "cpu.theirs", "caption", { tokens: TOKENS })] : []),
      ...(our ? [() => measure(our, "cpu.beams", "caption", { tokens: TOKENS, beams: 3 })] : []),
    ]),
  );
  if (our) result.values["cpu.ours.heapAfter"] = await our.call("heap");
  await our?.close();
  await their?.close();
}

/** How large the wasm heap becomes while the 8-bit model goes to the GPU. */
const heapOfLoading = () =>
  part("heap", async (keep) => {
    const page = await keep(ours());
    const { heap, loadMs, adapter } = await page.call("load", { device: "webgpu", model: "ours-q8-384", warmUp: false });
    result.adapter = adapter;
    result.values["heap.ours"] = heap;
    result.values["heap.loadMs"] = loadMs;
  });

/** Counts of a steady token, at a small picture: they do not depend on its size. */
const tokenCounts = () =>
  part("counters", async (keep) => {
    const page = await keep(ours());
    const loaded = await page.call("load", { device: "webgpu", model: "ours-mixed-64", warmUp: true });
    result.adapter ??= loaded.adapter;
    result.values["counters.warmUpMs"] = loaded.warmUpMs;
    const count = async (tokens) => {
      const before = await page.call("counters");
      await measure(page, `counters.${tokens}`, "caption", { tokens });
      return difference(before, await page.call("counters"));
    };
    // The first caption of a length may still make what later ones keep.
    const first = await count(SHORT);
    await count(LONG);
    const [short, long] = [await count(SHORT), await count(LONG)];
    result.counters.token = difference(short, long, LONG - SHORT);
    result.counters.firstCaption = first;
    result.counters.caption = short;
    result.counters.captionTokens = SHORT;
  });

/** Our engine on the GPU: at 384 px for the token, with the bytes that it holds after warm-up. */
const gpuToken = () =>
  part("gpu.token.ours", async (keep) => {
    const page = await keep(ours());
    const { counters, warmUpMs, loadMs } = await page.call("load", { device: "webgpu", model: "ours-mixed-384", warmUp: true });
    result.counters.warm384 = counters;
    result.values["gpu.token.ours.warmUpMs"] = warmUpMs;
    result.values["gpu.token.ours.loadMs"] = loadMs;
    await measure(page, "gpu.token.ours", "caption", { tokens: LONG });
    result.counters.afterCaption384 = await page.call("counters");
  });

const gpuTokenTheirs = () =>
  part("gpu.token.theirs", async (keep) => {
    const page = await keep(theirs());
    await page.call("load", { provider: "webgpu", precision: "q4", size: 384, parts: ["crosskv", "step"] });
    await measure(page, "gpu.token.theirs", "caption", { tokens: 1 }, { cold: true });
    await measure(page, "gpu.token.theirs", "caption", { tokens: SHORT });
  });

const gpuVision = () =>
  part("gpu.vision.ours", async (keep) => {
    const page = await keep(ours());
    const { warmUpMs } = await page.call("load", { device: "webgpu", model: "ours-mixed-224", warmUp: true });
    result.values["gpu.vision.ours.warmUpMs"] = warmUpMs;
    await measure(page, "gpu.vision.ours", "vision", {}, { cold: true });
    await measure(page, "gpu.vision.ours", "vision", {});
  });

const gpuVisionTheirs = (precision) =>
  part(`gpu.vision.theirs.${precision}`, async (keep) => {
    const page = await keep(theirs());
    await page.call("load", { provider: "webgpu", precision, size: 224, parts: ["vision"] });
    await measure(page, `gpu.vision.theirs.${precision}`, "vision", {}, { cold: true });
    await measure(page, `gpu.vision.theirs.${precision}`, "vision", {});
  });

const parts = [cpu, heapOfLoading, tokenCounts];
if (!plan.quick) parts.push(gpuToken, gpuTokenTheirs, gpuVision, () => gpuVisionTheirs("q4"), () => gpuVisionTheirs("fp32"));
for (const body of parts) await body();
result.seconds = performance.now() / 1000;
writeFileSync(resultPath, JSON.stringify(result));
await browser.close();
site.close();
