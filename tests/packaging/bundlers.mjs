/**
 * The packed package in applications as its users write them.
 *
 *   node bundlers.mjs TARBALL WORK EXPECTED.json [FILTER]
 *
 * Each application is built and served; headless Chromium must then see the caption of `scene-1.png` that
 * EXPECTED has, and no error in the console. The last line counts.
 */

import { spawn } from "node:child_process";
import { cpSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { launch, watch } from "../browser/chromium.mjs";
import { ENVIRONMENT, finish, judge, prepare, run } from "./project.mjs";
import { serve } from "./static-server.mjs";

const LIMIT = 120_000;
const START_LIMIT = 60_000;
const SAMPLE = new URL("../../www/samples/scene-1.png", import.meta.url);

const [tarball, work, expectedPath, filter = ""] = process.argv.slice(2);
const expected = JSON.parse(readFileSync(expectedPath, "utf8"))["scene-1.png"];

/** The policy of the package's README; `cdn` is the other origin where the package is, if it is on one. */
const policy = (cdn) =>
  [
    "default-src 'none'",
    `script-src 'self' 'wasm-unsafe-eval'${cdn === undefined ? "" : ` ${cdn}`}`,
    `worker-src 'self'${cdn === undefined ? "" : ` blob: ${cdn}`}`,
    `connect-src 'self'${cdn === undefined ? "" : ` ${cdn}`}`,
    "img-src 'self' data:",
  ].join("; ");

/** Each application: the folder that is served as it is, how it is built, and the ways to open it. */
const APPLICATIONS = {
  node: {
    check: (folder) => run(folder, "node", "index.mjs"),
  },
  esbuild: {
    assets: "public",
    build: (folder) => run(folder, "node", "build.mjs"),
    open: { "static site": (folder) => serve(join(folder, "public")) },
  },
  webpack: {
    assets: "public",
    build: (folder) => run(folder, "npx", "webpack"),
    open: { "static site": (folder) => serve(join(folder, "public")) },
  },
  vite: {
    assets: "public",
    build: (folder) => run(folder, "npx", "vite", "build", "--logLevel", "warn"),
    open: {
      "dev server": (folder) => start(folder, "vite/bin/vite.js", "--strictPort", "--host", "127.0.0.1"),
      preview: (folder) => start(folder, "vite/bin/vite.js", "preview", "--strictPort", "--host", "127.0.0.1"),
    },
  },
  plain: {
    open: {
      "own origin, strict policy": (folder) => serve(folder, { headers: { "Content-Security-Policy": policy() } }),
      "another origin, strict policy": acrossOrigins,
    },
  },
  next: {
    assets: "public",
    open: {
      "built by Turbopack": (folder) => nextSite(folder),
      "built by webpack": (folder) => nextSite(folder, "--webpack"),
    },
  },
};

async function acrossOrigins(folder) {
  const cdn = await serve(join(folder, "node_modules/blip-web"), { headers: { "Access-Control-Allow-Origin": "*" } });
  const site = await serve(folder, { headers: { "Content-Security-Policy": policy(new URL(cdn.url).origin) } });
  const script = encodeURIComponent(new URL("dist/index.js", cdn.url).href);
  return { url: `${site.url}?package=${script}`, close: () => (site.close(), cdn.close()) };
}

async function nextSite(folder, ...options) {
  rmSync(join(folder, ".next"), { recursive: true, force: true });
  await run(folder, "npx", "next", "build", ...options);
  return start(folder, "next/dist/bin/next", "start", "--hostname", "127.0.0.1");
}

/** Starts the server of an installed package on a free port, and waits until it answers. */
async function start(folder, script, ...args) {
  const port = await freePort();
  const command = [join(folder, "node_modules", script), ...args, "--port", String(port)];
  const child = spawn("node", command, { cwd: folder, env: ENVIRONMENT });
  let output = "";
  let ended = false;
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
  child.on("exit", () => (ended = true));
  const url = `http://127.0.0.1:${port}/`;
  const begun = performance.now();
  for (;;) {
    const answer = await fetch(url).catch(() => undefined);
    if (answer?.ok) return { url, close: () => child.kill() };
    if (ended || performance.now() - begun > START_LIMIT) {
      child.kill();
      throw new Error(`${script} does not answer:\n${output}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Waits for what a page says in the end; anything but the expected caption and a silent console is an error. */
async function visit(browser, url) {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    const problems = watch(page);
    await page.goto(url);
    await page
      .waitForFunction(() => /^(OK|ERROR):/.test(document.title), null, { timeout: LIMIT })
      .catch((error) => problems.push(error.message.split("\n")[0]));
    const title = await page.title();
    if (title !== `OK: ${expected}`) problems.push(`the page says "${title}", expected "OK: ${expected}"`);
    if (problems.length > 0) throw new Error(problems.join("\n"));
  } finally {
    await context.close();
  }
}

async function checkApplication(browser, name, { assets, check, build, open = {} }) {
  const folder = await prepare(name, work, tarball).catch((error) => judge(`${name}: install`, () => Promise.reject(error)));
  if (!folder) return;
  cpSync(SAMPLE, join(folder, assets ?? ".", "scene.png"));
  if (assets !== undefined) {
    cpSync(join(folder, "node_modules/blip-web/models"), join(folder, assets, "models"), { recursive: true });
  }
  if (check !== undefined) await judge(name, () => check(folder));
  if (build !== undefined && !(await judge(`${name}: build`, () => build(folder)))) return;
  for (const [kind, site] of Object.entries(open)) {
    await judge(`${name}: ${kind}`, async () => {
      const { url, close } = await site(folder);
      try {
        await visit(browser, url);
      } finally {
        close();
      }
    });
  }
}

if (expected === undefined) throw new Error(`${expectedPath} says nothing about scene-1.png`);
const browser = await launch({ webgpu: false });
for (const [name, application] of Object.entries(APPLICATIONS)) {
  if (name.includes(filter)) await checkApplication(browser, name, application);
}
await browser.close();
finish();
