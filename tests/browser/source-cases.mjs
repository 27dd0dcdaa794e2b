/**
 * Sources that the browser has decoded, against the file that they came from: the package's README states how far
 * they may differ, in levels of pixels and in the features of the images.
 */

import { close, ensure, equal, instance, rejects, sampleBytes } from "./checks.mjs";
import { networks, recorded } from "./task-cases.mjs";

/** The least cosine of the features of a decoded source and of its file. */
const ALIKE = 0.999;

/** The contrastive features of an image, of unit length. */
async function features(source, options = {}) {
  const { data } = await (await networks("cpu")).embed({ image: source }, { output: "projection", ...options });
  return [...data];
}

const cosine = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);

async function element(blob) {
  const image = Object.assign(new Image(), { src: URL.createObjectURL(blob) });
  await image.decode();
  return image;
}

function canvases({ width, height }) {
  return [new OffscreenCanvas(width, height), Object.assign(document.createElement("canvas"), { width, height })];
}

/** Every way a browser holds the picture of a file; what is to be closed is the page's end. */
async function decoded(blob) {
  const bitmap = await createImageBitmap(blob);
  const [offscreen, canvas] = canvases(bitmap);
  for (const target of [offscreen, canvas]) target.getContext("2d").drawImage(bitmap, 0, 0);
  const data = offscreen.getContext("2d").getImageData(0, 0, bitmap.width, bitmap.height);
  return { element: await element(blob), bitmap, offscreen, canvas, data, frame: new VideoFrame(canvas, { timestamp: 0 }) };
}

/** A picture of stripes that is wider than high, so that a turn of it shows. */
function stripes(alpha) {
  const canvas = new OffscreenCanvas(96, 64);
  const context = canvas.getContext("2d");
  for (let x = 0; x < 96; x++) {
    context.fillStyle = `rgb(${x * 2} ${255 - x} ${(x * 37) % 256} / ${alpha ? 0.2 + (x % 48) / 60 : 1})`;
    context.fillRect(x, (x * 5) % 32, 1, 64);
  }
  if (!alpha) {
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#248";
    context.fillRect(0, 0, 96, 64);
  }
  return canvas;
}

/** A JPEG that says how it is to be turned: EXIF with one entry, the orientation. */
async function turned(jpeg, orientation) {
  const bytes = new Uint8Array(await jpeg.arrayBuffer());
  const tiff = [0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
  const exif = [...new TextEncoder().encode("Exif"), 0, 0, ...tiff];
  const segment = [0xff, 0xe1, 0, exif.length + 2, ...exif];
  // After the two bytes that every JPEG begins with.
  return new Blob([bytes.subarray(0, 2), Uint8Array.from(segment), bytes.subarray(2)], { type: "image/jpeg" });
}

const PLAIN = {
  async "of an opaque picture without loss every source gives exactly the file's features"() {
    const blob = new Blob([await sampleBytes()], { type: "image/png" });
    const expected = await features(blob);
    const sources = { ...(await decoded(blob)), file: new File([blob], "a.png"), buffer: await blob.arrayBuffer() };
    for (const [kind, source] of Object.entries(sources)) equal(await features(source), expected, `the features of ${kind}`);
    // The file is left as it was.
    equal((await (await instance("cpu")).caption(sources.frame)).text, (await (await instance("cpu")).caption(blob)).text);
  },
  async "of a JPEG, turned as its EXIF says, every source gives nearly the file's features"() {
    const plain = await stripes(false).convertToBlob({ type: "image/jpeg", quality: 0.8 });
    const jpeg = await turned(plain, 6);
    const expected = await features(jpeg);
    const asStored = await features(jpeg, { applyExif: false });
    close(asStored, await features(plain), 1e-6, "what is not turned");
    const apart = cosine(expected, asStored);
    let least = 1;
    for (const [kind, source] of Object.entries(await decoded(jpeg))) {
      const found = cosine(await features(source), expected);
      ensure(found >= ALIKE && found > apart, `${kind} has the cosine ${found}; not turned it would be ${apart}`);
      least = Math.min(least, found);
    }
    console.info(`sources: a JPEG has a cosine of at least ${least.toFixed(6)}, not turned ${apart.toFixed(6)}`);
  },
  async "half-transparent pictures are put on white alike"() {
    const blob = await stripes(true).convertToBlob({ type: "image/png" });
    const expected = await features(blob);
    const { frame: _, ...sources } = await decoded(blob);
    for (const [kind, source] of Object.entries(sources)) {
      const found = cosine(await features(source), expected);
      ensure(found >= ALIKE, `${kind} has the cosine ${found}`);
    }
    ensure(cosine(await features(blob, { alpha: "discard" }), expected) < 1 - 1e-6, "without white it is another picture");
  },
  async "pixels of another colour space are converted"() {
    const wide = new ImageData(new Uint8ClampedArray(64 * 64 * 4), 64, 64, { colorSpace: "display-p3" });
    const plain = new ImageData(64, 64);
    for (let at = 0; at < wide.data.length; at += 4) {
      // A colour that both spaces have: of display-p3, and what it is in sRGB.
      wide.data.set([200, 100, 50, 255], at);
      plain.data.set([215, 93, 31, 255], at);
    }
    const found = cosine(await features(wide), await features(plain));
    ensure(found >= 1 - 1e-5, `the cosine is ${found}`);
  },
  async "a <video> is the frame that it shows, and none before it shows one"() {
    const video = await recorded();
    video.currentTime = 0.5;
    await new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    equal(await features(video), await features(canvas), "the features");
    const frame = new VideoFrame(video, { timestamp: 0 });
    const found = cosine(await features(frame), await features(video));
    ensure(found >= ALIKE, `its VideoFrame has the cosine ${found}`);
    frame.close();
    const early = document.createElement("video");
    const known = new Promise((resolve) => early.addEventListener("loadedmetadata", resolve, { once: true }));
    early.src = video.src;
    await rejects(() => features(early), "bad-image");
    await known;
    if (early.readyState === 1) await rejects(() => features(early), "bad-image");
  },
};

export const CASES = { plain: PLAIN };
