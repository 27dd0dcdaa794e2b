/**
 * The page: an image in, a caption out. It uses the public SDK and nothing else.
 *
 * Addresses: `?device=webgpu|cpu|auto` and `?model=<folder of models/>`.
 */

import { Blip, BlipError } from "./pkg/index.js";
import { page } from "./page.js";

const query = new URLSearchParams(location.search);
const model = query.get("model") ?? "tiny";
const device = query.get("device") ?? "auto";

/** The instance, or why there is none; images can be chosen before it is ready. */
const engine = Blip.create({ model, device, onProgress: page.showProgress });
let running = new AbortController();

engine.then(page.showReady, (error) => {
  page.showIdle("There is no model to caption with. Another device may work: see the end of the page.");
  page.showError(error);
});

/** Captions an image; a newer image takes the place of an older one. */
async function caption(image, { address, truth = "" }) {
  running.abort();
  const controller = (running = new AbortController());
  const { signal } = controller;
  page.showImage(address, truth);
  try {
    const blip = await engine;
    if (signal.aborted) return;
    page.showBusy("Reading the image…");
    const stream = blip.captionStream(image, { signal });
    for await (const { text } of stream) page.showText(text);
    page.showResult(await stream.result);
  } catch (error) {
    // The newer image, or the button, has already said what the page shows.
    if (signal.aborted) return;
    page.showIdle("Ready for another image.");
    page.showError(error);
  }
}

function captionFile(file) {
  caption(file, { address: URL.createObjectURL(file) });
}

page.onStop(() => {
  running.abort();
  page.showIdle("Stopped.");
});

page.onFiles((files) => {
  const [file] = files;
  if (file === undefined) page.showError(new BlipError("bad-image", "that was not an image file"));
  else captionFile(file);
});

try {
  const response = await fetch("samples/samples.json");
  if (!response.ok) throw new BlipError("download-failed", `samples/samples.json: HTTP status ${response.status}`);
  for (const [index, sample] of (await response.json()).entries()) {
    const address = new URL(sample.image, response.url).href;
    page.addSample(index, { ...sample, address }, () => caption(address, { address, truth: sample.truth }));
  }
} catch (error) {
  page.showError(error);
}
