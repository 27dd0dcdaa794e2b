import assert from "node:assert/strict";
import test, { afterEach } from "node:test";
import { readImage } from "../dist/images.js";
import { serve } from "./fake-engine.mjs";

const bytes = new Uint8Array([1, 2, 3, 4]);
const undo = [];
afterEach(() => {
  for (const restore of undo.splice(0)) restore();
});

/** Puts a browser class in place for one test. */
function define(name, value) {
  globalThis[name] = value;
  undo.push(() => delete globalThis[name]);
}

class FakeImageData {
  constructor(data, width, height) {
    Object.assign(this, { data, width, height });
  }
}

/** Images that were put on canvases. */
let put = 0;

function defineCanvas(getImageData) {
  define(
    "OffscreenCanvas",
    class {
      constructor(width, height) {
        Object.assign(this, { width, height });
      }
      getContext() {
        return { drawImage() {}, putImageData: () => put++, getImageData };
      }
    },
  );
}

test("encoded bytes stay as they are, whatever holds them", async () => {
  for (const source of [new Blob([bytes]), new File([bytes], "a.png"), bytes, bytes.buffer, new DataView(bytes.buffer)]) {
    const image = await readImage(source);
    assert.equal(image.kind, "encoded");
    assert.deepEqual([...image.bytes], [...bytes]);
  }
});

test("a view gives its own part of the buffer, and the caller keeps the memory", async () => {
  const view = bytes.subarray(1, 3);
  const image = await readImage(view);
  assert.deepEqual([...image.bytes], [2, 3]);
  assert.notEqual(image.bytes.buffer, bytes.buffer);
});

test("an address is fetched, a failing one is download-failed", async () => {
  undo.push(serve({ "a.png": bytes }));
  assert.deepEqual([...(await readImage("https://example.test/a.png")).bytes], [...bytes]);
  assert.deepEqual([...(await readImage(new URL("https://example.test/a.png"))).bytes], [...bytes]);
  await assert.rejects(readImage("https://example.test/b.png"), { code: "download-failed", message: /404/ });
});

test("a data URL needs no network", async () => {
  assert.deepEqual([...(await readImage("data:image/png;base64,AQIDBA==")).bytes], [...bytes]);
});

test("a blob that can no longer be read is bad-image", async () => {
  const blob = new Blob([bytes]);
  blob.arrayBuffer = async () => {
    throw new DOMException("gone", "NotReadableError");
  };
  await assert.rejects(readImage(blob), { code: "bad-image" });
});

test("ImageData goes as pixels", async () => {
  define("ImageData", FakeImageData);
  const image = await readImage(new FakeImageData(new Uint8ClampedArray(bytes), 1, 1));
  assert.deepEqual(image, { kind: "pixels", rgba: bytes, width: 1, height: 1 });
});

test("ImageData of another colour space is converted by the browser", async () => {
  define("ImageData", FakeImageData);
  put = 0;
  defineCanvas((...asked) => {
    assert.deepEqual(asked.at(-1), { colorSpace: "srgb" });
    return new FakeImageData(new Uint8ClampedArray([9, 9, 9, 255]), 1, 1);
  });
  const wide = Object.assign(new FakeImageData(new Uint8ClampedArray(bytes), 1, 1), { colorSpace: "display-p3" });
  assert.deepEqual([...(await readImage(wide)).rgba], [9, 9, 9, 255]);
  assert.equal(put, 1);
  const plain = Object.assign(new FakeImageData(new Uint8ClampedArray(bytes), 1, 1), { colorSpace: "srgb" });
  assert.deepEqual([...(await readImage(plain)).rgba], [...bytes]);
});

test("a video of which only the size is known has no picture yet", async () => {
  defineCanvas(() => new FakeImageData(new Uint8ClampedArray(4), 1, 1));
  for (const [readyState, code] of [[0, "bad-image"], [1, "bad-image"], [2, undefined], [4, undefined]]) {
    define("HTMLVideoElement", class { videoWidth = 1; videoHeight = 1; readyState = readyState; });
    const read = readImage(new HTMLVideoElement());
    if (code === undefined) assert.equal((await read).kind, "pixels");
    else await assert.rejects(read, { code, message: /loadeddata/ });
  }
});

test("ImageData of another pixel format is bad-image", async () => {
  define("ImageData", FakeImageData);
  await assert.rejects(readImage(new FakeImageData(new Float32Array(4), 1, 1)), { code: "bad-image" });
});

test("an element is drawn at its natural size", async () => {
  define("HTMLImageElement", class { naturalWidth = 3; naturalHeight = 2; decode = async () => {}; });
  let asked;
  defineCanvas((...area) => {
    asked = area.slice(0, 4);
    return new FakeImageData(new Uint8ClampedArray(24), 3, 2);
  });
  const image = await readImage(new HTMLImageElement());
  assert.deepEqual(asked, [0, 0, 3, 2]);
  assert.equal(image.kind, "pixels");
  assert.equal(image.rgba.length, 24);
});

test("an element that does not decode, has no pixels or is of another origin is bad-image", async () => {
  define("HTMLImageElement", class { currentSrc = "x"; decode = async () => { throw new Error("EncodingError"); }; });
  await assert.rejects(readImage(new HTMLImageElement()), { code: "bad-image", message: /decode/ });

  define("HTMLVideoElement", class { videoWidth = 0; videoHeight = 0; });
  await assert.rejects(readImage(new HTMLVideoElement()), { code: "bad-image", message: /no pixels/ });

  define("ImageBitmap", class { width = 1; height = 1; });
  defineCanvas(() => {
    throw new DOMException("tainted", "SecurityError");
  });
  await assert.rejects(readImage(new ImageBitmap()), { code: "bad-image", message: /tainted/ });
});

test("anything else is bad-image and named", async () => {
  for (const source of [null, undefined, 7, {}, []]) {
    await assert.rejects(readImage(source), { code: "bad-image" }, String(source));
  }
});
