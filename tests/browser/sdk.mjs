/**
 * The SDK in headless Chromium, with WebGPU and without.
 *
 *   node sdk.mjs URL [FILTER]      URL is the assembled site
 *
 * The cases are in sdk-cases.mjs and run inside the page; this file brings the browsers and the broken
 * models. The last line counts.
 */

import { readFileSync } from "node:fs";
import { KINDS, answer } from "./checkpoints.mjs";
import { launch } from "./chromium.mjs";

const LIMIT = 480_000;
const [url, filter = ""] = process.argv.slice(2);
const counts = { passed: 0, failed: 0, skipped: 0 };

/** Model folders that exist only here: each changes what the real one would answer. */
const BROKEN = {
  /** One byte of the weights is another. */
  tampered: (name, body) => (name.endsWith(".safetensors") ? flip(body) : body),
  /** The weights end early. */
  truncated: (name, body) => (name.endsWith(".safetensors") ? body.subarray(0, body.length / 2) : body),
  /** A server that answers every address with its start page. */
  page: () => Buffer.from("<!doctype html>"),
};

function flip(body) {
  const copy = Buffer.from(body);
  copy[copy.length >> 1] ^= 1;
  return copy;
}

async function open(webgpu) {
  const browser = await launch({ webgpu });
  const context = await browser.newContext();
  const served = { "/blank.html": "text/html", "/sdk-cases.mjs": "text/javascript" };
  await context.route(
    ({ pathname }) => pathname in served,
    (route) => {
      const { pathname } = new URL(route.request().url());
      const body = pathname === "/blank.html" ? "<!doctype html><title>tests</title>" : readFileSync(new URL(`.${pathname}`, import.meta.url));
      return route.fulfill({ contentType: served[pathname], body });
    },
  );
  await context.route(/\/broken\//, async (route) => {
    const [, kind, path] = /\/broken\/([a-z]+)\/(.*)/.exec(route.request().url());
    const real = async (path) => Buffer.from(await (await fetch(new URL(`models/${path}`, url))).arrayBuffer());
    const body = KINDS.includes(kind) ? await answer(kind, path, real) : BROKEN[kind](path, await real(path));
    return route.fulfill({ body });
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => console.log(`  uncaught: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && console.log(`  console: ${message.text()}`));
  await page.goto(new URL("blank.html", url).href);
  return { browser, page };
}

/** Runs the cases of one browser in their order; they share the page, and what they leave in it. */
async function run(webgpu) {
  const { browser, page } = await open(webgpu);
  const suite = webgpu ? "webgpu" : "plain";
  const names = await page.evaluate(async (suite) => (await import("/sdk-cases.mjs")).names(suite), suite);
  for (const name of names.filter((name) => name.includes(filter))) {
    const begun = performance.now();
    const failure = await Promise.race([
      page.evaluate(async ([suite, name]) => (await import("/sdk-cases.mjs")).run(suite, name), [suite, name]),
      new Promise((resolve) => setTimeout(resolve, LIMIT, `no end after ${LIMIT / 1000} s`).unref()),
    ]).catch((error) => error.message);
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    counts[failure === null ? "passed" : "failed"]++;
    console.log(`${failure === null ? "ok    " : "FAILED"} ${suite}: ${name} (${seconds} s)${failure === null ? "" : `\n  ${failure}`}`);
  }
  await browser.close();
}

await run(true);
await run(false);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
