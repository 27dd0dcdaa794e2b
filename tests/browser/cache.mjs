/**
 * Downloads, the cache and model repositories in headless Chromium, against servers with faults.
 *
 *   node cache.mjs URL [FILTER]      URL is the assembled site
 *
 * The cases are in cache-cases.mjs and run inside the page; this file brings the browser, the servers and
 * what is published on them. The last line counts.
 */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { launch } from "./chromium.mjs";
import { HubServer } from "./hub-server.mjs";
import { parse, serialise } from "./safetensors.mjs";

const LIMIT = 240_000;
const [url, filter = ""] = process.argv.slice(2);
const counts = { passed: 0, failed: 0, skipped: 0 };
const file = (path) => readFileSync(new URL(`../../${path}`, import.meta.url));
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** Everything that the servers have. */
function publish(hub) {
  const captioner = { weights: file("tests/fixtures/models/captioner/model.safetensors"), vocab: file("tests/fixtures/models/captioner/vocab.txt") };
  const manifest = JSON.parse(file("tests/fixtures/models/captioner/blip.json"));
  const config = Buffer.from(JSON.stringify(manifest.config));
  hub.folder("captioner", { "blip.json": cut(manifest, captioner.weights), "model.safetensors": captioner.weights, "vocab.txt": captioner.vocab });
  const asHub = { "config.json": config, "vocab.txt": captioner.vocab, "model.safetensors": captioner.weights };
  hub.repository("fixtures/captioner", asHub);
  hub.repository("fixtures/replaced", asHub, { digest: "0".repeat(64) });
  hub.repository("fixtures/empty", { "config.json": config });
  hub.repository("fixtures/grown", { "vocab.txt": captioner.vocab, ...grown(manifest.config, captioner.weights) });
  const untied = "tests/fixtures/parity/caption_untied";
  const words = { "config.json": file(`${untied}/config.json`), "vocab.txt": file("tests/fixtures/networks/vocab.txt") };
  hub.repository("fixtures/untied", { ...words, "model.safetensors": file(`${untied}/model.safetensors`) });
  hub.repository("fixtures/untied-bin", { ...words, "pytorch_model.bin": file(`${untied}/pytorch_model.bin`) });
}

/** The manifest with smaller chunks, so that a small model has several. */
function cut(manifest, weights) {
  const size = 1 << 19;
  const digests = [];
  for (let at = 0; at < weights.length; at += size) digests.push(sha256(weights.subarray(at, at + size)));
  const { files } = manifest;
  return Buffer.from(JSON.stringify({ ...manifest, files: { ...files, weights: { ...files.weights, chunks: { size, sha256: digests } } } }));
}

/** A model that is four times as wide, long enough to be interrupted: its numbers are repeated to fill it. */
function grown({ vision_config: vision, text_config: text, ...config }, weights) {
  const factor = 4;
  const [narrow, inner] = [vision.hidden_size, vision.intermediate_size];
  // Queries, keys and values are three of them in one matrix.
  const wide = (size) => ([narrow, inner, 3 * narrow].includes(size) ? size * factor : size);
  const grow = (side) => ({ ...side, hidden_size: wide(side.hidden_size), intermediate_size: wide(side.intermediate_size) });
  const tensors = parse(weights).map(({ name, dtype, shape, bytes }) => {
    const larger = shape.map(wide);
    const times = larger.reduce((a, b) => a * b, 1) / shape.reduce((a, b) => a * b, 1);
    return { name, dtype, shape: larger, bytes: Buffer.concat(Array.from({ length: times }, () => bytes)) };
  });
  const grownConfig = { ...config, vision_config: grow(vision), text_config: grow(text) };
  return { "config.json": Buffer.from(JSON.stringify(grownConfig)), "model.safetensors": serialise(tensors) };
}

async function open(hub) {
  const browser = await launch({ webgpu: false });
  const context = await browser.newContext();
  await context.route(
    (address) => address.href.startsWith(url) && address.pathname === "/cache-cases.mjs",
    (route) => route.fulfill({ contentType: "text/javascript", body: readFileSync(new URL("./cache-cases.mjs", import.meta.url)) }),
  );
  const page = await context.newPage();
  page.on("pageerror", (error) => console.log(`  uncaught: ${error.message}`));
  // Failed requests are what these tests are about; the browser notes each of them.
  const isOurs = (message) => message.type() === "error" && !message.text().startsWith("Failed to load resource");
  page.on("console", (message) => isOurs(message) && console.log(`  console: ${message.text()}`));
  const session = await context.newCDPSession(page);
  const { origin } = new URL(url);
  await page.exposeFunction("servers", () => ({ hub: hub.url, cdn: hub.cdn }));
  await page.exposeFunction("fault", (...fault) => hub.fault(...fault));
  await page.exposeFunction("requests", () => hub.log);
  await page.exposeFunction("reset", () => hub.reset());
  // The browser's own limit, not a stand-in for it; without a size, the usual one.
  await page.exposeFunction("quota", (quotaSize) => session.send("Storage.overrideQuotaForOrigin", { origin, ...(quotaSize ? { quotaSize } : {}) }));
  // A page that a server really sent: others may not speak to servers of this machine.
  await page.goto(new URL("samples/samples.json", url).href);
  return { browser, page };
}

const hub = await HubServer.start();
publish(hub);
const { browser, page } = await open(hub);
const names = await page.evaluate(async () => (await import("/cache-cases.mjs")).names());
for (const name of names.filter((name) => name.includes(filter))) {
  const begun = performance.now();
  hub.reset();
  const failure = await Promise.race([
    page.evaluate(async (name) => (await import("/cache-cases.mjs")).run(name), name),
    new Promise((resolve) => setTimeout(resolve, LIMIT, `no end after ${LIMIT / 1000} s`).unref()),
  ]).catch((error) => error.message);
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  counts[failure === null ? "passed" : "failed"]++;
  console.log(`${failure === null ? "ok    " : "FAILED"} cache: ${name} (${seconds} s)${failure === null ? "" : `\n  ${failure}`}`);
}
await browser.close();
hub.close();
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
