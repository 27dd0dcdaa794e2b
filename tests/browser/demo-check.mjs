/**
 * Uses the demonstration page as a visitor would: a bad file first, then every sample on WebGPU.
 *
 *   node demo-check.mjs URL EXPECTED.json      EXPECTED maps image names to native captions
 *
 * Prints one JSON line an image; exits non-zero when a caption is wrong or the console had an error.
 */

import { readFileSync } from "node:fs";
import { launch, watch } from "./chromium.mjs";

const START_LIMIT = 480_000;
const CAPTION_LIMIT = 240_000;

const [url, expectedPath] = process.argv.slice(2);
const expected = JSON.parse(readFileSync(expectedPath, "utf8"));
const samples = await (await fetch(new URL("samples/samples.json", url))).json();

const browser = await launch({ webgpu: true });
const page = await browser.newPage();
const problems = watch(page);

/** What the list of this run says, for scripts. */
const fact = (name) => page.locator(`#facts dd[data-name="${name}"]`).getAttribute("data-value", { timeout: 1000 });

/** Waits until the page has a caption or an error. */
const settled = (limit) =>
  page.waitForFunction(
    () => document.body.dataset.state === "done" || document.getElementById("error").textContent !== "",
    null,
    { timeout: limit },
  );

async function start() {
  await page.goto(new URL("?device=webgpu", url).href);
  await page.waitForFunction(
    () => document.querySelector('#facts dd[data-name="compile"]') || document.getElementById("error").textContent !== "",
    null,
    { timeout: START_LIMIT },
  );
  await page.locator("#samples button").nth(samples.length - 1).waitFor();
  const error = await page.locator("#error").textContent();
  if (error !== "") throw new Error(`the page did not start: ${error}`);
}

async function refuseBadFile() {
  await page.setInputFiles("#file", { name: "text.jpg", mimeType: "image/jpeg", buffer: Buffer.from("not an image") });
  await settled(CAPTION_LIMIT);
  const code = await page.locator("#error code").textContent({ timeout: 1000 });
  if (code !== "bad-image") problems.push(`a text file named .jpg gave ${code}`);
}

async function captionSample(index) {
  const { image, truth } = samples[index];
  await page.locator("#samples button").nth(index).click();
  await settled(CAPTION_LIMIT);
  const error = await page.locator("#error").textContent();
  if (error !== "") problems.push(`${image}: ${error}`);
  const caption = error === "" ? await page.locator("#caption").textContent() : null;
  const ms = {};
  for (const name of ["load", "compile", "encode", "caption"]) ms[name] = Math.round(Number(await fact(name)));
  const ok = caption !== null && caption === expected[image];
  return {
    image,
    adapter: await fact("adapter"),
    device: await fact("device"),
    model: await fact("model"),
    caption,
    expected: expected[image],
    truth,
    ok,
    ms,
  };
}

let wrong = 0;
try {
  await start();
  await refuseBadFile();
  for (const index of samples.keys()) {
    const result = await captionSample(index);
    if (!result.ok || result.device !== "webgpu") wrong++;
    console.log(JSON.stringify(result));
  }
} catch (error) {
  problems.push(error.message);
}
if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
await browser.close();
for (const problem of problems) console.error(problem);
process.exitCode = wrong > 0 || problems.length > 0 ? 1 : 0;
