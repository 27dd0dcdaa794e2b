/**
 * The SDK in headless Chromium, with WebGPU and without.
 *
 *   BLIP=path node sdk.mjs URL [FILTER]      URL is the assembled site, BLIP the command line tool
 *
 * The cases are in suites.mjs and run inside the page; this file brings the browsers, the broken models,
 * what is answered natively, and another origin. The last line counts.
 */

import { createServer } from "node:http";
import { existsSync, readFileSync } from "node:fs";
import { KINDS, answer } from "./checkpoints.mjs";
import { launch } from "./chromium.mjs";
import { Native } from "./native.mjs";

const LIMIT = 480_000;
const [url, filter = ""] = process.argv.slice(2);
const counts = { passed: 0, failed: 0, skipped: 0 };
const native = new Native(process.env.BLIP);
const cases = JSON.stringify(native.cases());
const gallery = JSON.stringify(native.gallery());
/** Cases of this name begin in a page that was loaded anew. */
const RELOADED = "after a reload";

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

/** The same site under another origin, which lets everyone read it. */
function otherOrigin() {
  const server = createServer(async (request, response) => {
    const found = await fetch(new URL(request.url.slice(1), url));
    const headers = { "Access-Control-Allow-Origin": "*", "Content-Type": found.headers.get("Content-Type") ?? "application/octet-stream" };
    response.writeHead(found.status, headers).end(Buffer.from(await found.arrayBuffer()));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve({ server, origin: `http://127.0.0.1:${server.address().port}/` })));
}

/** What the page has beside the site. */
function served(pathname) {
  if (pathname === "/blank.html") return { contentType: "text/html", body: "<!doctype html><title>tests</title>" };
  if (pathname === "/fixtures/cases.json") return { contentType: "application/json", body: cases };
  if (pathname === "/fixtures/gallery.json") return { contentType: "application/json", body: gallery };
  if (pathname.startsWith("/fixtures/")) {
    const body = native.file(pathname.slice("/fixtures/".length));
    return body === undefined ? { status: 404, body: "" } : { body };
  }
  const script = new URL(`.${pathname}`, import.meta.url);
  return /^\/[a-z-]+\.mjs$/.test(pathname) && existsSync(script)
    ? { contentType: "text/javascript", body: readFileSync(script) }
    : undefined;
}

async function open(webgpu, origin) {
  const browser = await launch({ webgpu });
  const context = await browser.newContext();
  await context.route(
    ({ pathname, href }) => href.startsWith(url) && served(pathname) !== undefined,
    (route) => route.fulfill(served(new URL(route.request().url()).pathname)),
  );
  await context.route(/\/broken\//, async (route) => {
    const [, kind, path] = /\/broken\/([a-z]+)\/(.*)/.exec(route.request().url());
    const real = async (path) => Buffer.from(await (await fetch(new URL(`models/${path}`, url))).arrayBuffer());
    const body = KINDS.includes(kind) ? await answer(kind, path, real) : BROKEN[kind](path, await real(path));
    return route.fulfill({ body });
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => console.log(`  uncaught: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") console.log(`  console: ${message.text()}`);
    if (message.type() === "info") console.log(`  ${message.text()}`);
  });
  await page.exposeFunction("nativeGallery", (base64) => native.imported(Buffer.from(base64, "base64")));
  await page.addInitScript((origin) => (window.OTHER_ORIGIN = origin), origin);
  await page.goto(new URL("blank.html", url).href);
  return { browser, page };
}

/** Runs the cases of one browser in their order; they share the page, and what they leave in it. */
async function run(webgpu, origin) {
  const suite = webgpu ? "webgpu" : "plain";
  const { browser, page } = await open(webgpu, origin);
  const names = await page.evaluate(async (suite) => (await import("/suites.mjs")).names(suite), suite);
  for (const name of names.filter((name) => name.includes(filter))) {
    const begun = performance.now();
    if (name.startsWith(RELOADED)) await page.reload();
    const failure = await Promise.race([
      page.evaluate(async ([suite, name]) => (await import("/suites.mjs")).run(suite, name), [suite, name]),
      new Promise((resolve) => setTimeout(resolve, LIMIT, `no end after ${LIMIT / 1000} s`).unref()),
    ]).catch((error) => error.message);
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    counts[failure === null ? "passed" : "failed"]++;
    console.log(`${failure === null ? "ok    " : "FAILED"} ${suite}: ${name} (${seconds} s)${failure === null ? "" : `\n  ${failure}`}`);
  }
  await browser.close();
}

const { server, origin } = await otherOrigin();
try {
  await run(true, origin);
  await run(false, origin);
} finally {
  server.close();
  server.closeAllConnections();
  native.close();
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
