/**
 * Every shader in a real browser's compiler, which is stricter than the native one.
 *
 *   node wgsl.mjs LISTING      LISTING is JSON: pairs of a name and its WGSL
 *
 * A browser drops a dispatch whose shader is invalid without a word, so this is where it shows.
 * The last line counts.
 */

import { readFileSync } from "node:fs";
import { launch } from "./chromium.mjs";

const sources = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await launch({ webgpu: true });
const page = await browser.newPage();
// WebGPU wants a secure context; nothing is fetched from there.
await page.route("https://shaders.test/", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html>" }));
await page.goto("https://shaders.test/");
const results = await page.evaluate(async (sources) => {
  const adapter = await navigator.gpu.requestAdapter();
  const halves = adapter.features.has("shader-f16");
  const device = await adapter.requestDevice({ requiredFeatures: halves ? ["shader-f16"] : [] });
  const compile = async ([name, code]) => {
    if (code.includes("enable f16;") && !halves) return { name, skipped: true };
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code });
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter(({ type }) => type === "error");
    const texts = errors.map(({ lineNum, linePos, message }) => `${lineNum}:${linePos} ${message}`);
    const refused = await device.popErrorScope();
    return { name, errors: refused === null ? texts : [...texts, refused.message] };
  };
  const results = [];
  for (const source of sources) results.push(await compile(source));
  return results;
}, sources);
await browser.close();

const skipped = results.filter((result) => result.skipped).length;
if (skipped > 0) console.log(`skipped: ${skipped} shaders with halves: the browser's adapter has no shader-f16`);
const compiled = results.filter((result) => !result.skipped);
const failed = compiled.filter(({ errors }) => errors.length > 0);
for (const { name, errors } of failed) console.log(`FAILED ${name}\n  ${errors.join("\n  ")}`);
console.log(`${compiled.length - failed.length} passed, ${failed.length} failed, ${skipped > 0 ? 1 : 0} skipped`);
process.exitCode = failed.length > 0 || compiled.length === 0 ? 1 : 0;
