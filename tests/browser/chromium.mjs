/** Headless Chromium with or without WebGPU, and a record of everything that goes wrong in its pages. */

import { chromium } from "playwright-core";

const QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];
/** Without a person, nobody grants a page the permission to fetch from another server of this machine. */
const LOCAL = ["--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebRTC"];
const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** Starts the browser that `CHROMIUM` names; `webgpu: false` is a browser that offers none. */
export function launch({ webgpu }) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    // The new headless mode is a flag of the ordinary browser; Playwright's own switch means another program.
    headless: false,
    args: ["--headless=new", "--no-sandbox", ...QUIET, ...LOCAL, ...(webgpu ? SOFTWARE_GPU : [])],
  });
}

/** Collects console errors, uncaught exceptions and failed requests of a page. */
export function watch(page) {
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`uncaught: ${error.message}`));
  page.on("crash", () => problems.push("the page crashed"));
  page.on("response", (response) => response.status() >= 400 && problems.push(`${response.status()} ${response.url()}`));
  return problems;
}
