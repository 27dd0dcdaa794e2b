import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { overlay, overlayPixels } from "../dist/overlay.js";

const pixel = ({ data, width }, x, y) => [...data.slice(4 * (y * width + x), 4 * (y * width + x) + 4)];
const map = (...values) => Float32Array.from(values);

test("a pixel at a place of the grid has its value, as colour and as opacity", () => {
  const colours = [[0, 0, 0], [200, 100, 50]];
  const pixels = overlayPixels(map(0, 1, 2, 4), [2, 2], { width: 2, height: 2, opacity: 0.5, colours });
  assert.deepEqual([pixels.width, pixels.height, pixels.data.length], [2, 2, 16]);
  assert.deepEqual(pixel(pixels, 0, 0), [0, 0, 0, 0]);
  assert.deepEqual(pixel(pixels, 1, 1), [200, 100, 50, 128]);
  // Half of the maximum, in 255 steps.
  for (const [part, expected] of [100, 50, 25, 64].entries()) assert.ok(Math.abs(pixel(pixels, 0, 1)[part] - expected) <= 1);
});

test("rows are rows: height before width", () => {
  const pixels = overlayPixels(map(0, 0, 9, 0, 0, 0), [2, 3], { width: 3, height: 2 });
  assert.ok(pixel(pixels, 2, 0)[3] > 0);
  for (const [x, y] of [[0, 0], [1, 0], [0, 1], [1, 1], [2, 1]]) assert.equal(pixel(pixels, x, y)[3], 0);
});

test("between the places is a spline: a constant and a slope stay what they are", () => {
  const constant = overlayPixels(new Float32Array(20).fill(0.3), [4, 5], { width: 57, height: 31, opacity: 1 });
  for (let at = 3; at < constant.data.length; at += 4) assert.equal(constant.data[at], 255);
  const slope = overlayPixels(map(0, 1, 2, 3, 4, 5, 6, 7), [1, 8], { width: 80, height: 3, opacity: 1 });
  // Away from the borders, where samples repeat, a pixel in x is worth (x + 0.5) / 10 - 0.5 of the highest value, 7.
  for (let x = 15; x < 65; x++) {
    const expected = (255 * ((x + 0.5) / 10 - 0.5)) / 7;
    assert.ok(Math.abs(pixel(slope, x, 1)[3] - expected) <= 1, `${x}: ${pixel(slope, x, 1)[3]} ${expected}`);
  }
});

test("a peak stays where it is, in any proportions", () => {
  const values = new Float32Array(24 * 24);
  values[5 * 24 + 17] = 1;
  for (const [width, height] of [[240, 240], [640, 100], [24, 480]]) {
    const pixels = overlayPixels(values, [24, 24], { width, height, opacity: 1 });
    let best = 0;
    for (let at = 0; at < width * height; at++) if (pixels.data[4 * at + 3] > pixels.data[4 * best + 3]) best = at;
    assert.equal(Math.floor(((best % width) * 24) / width), 17);
    assert.equal(Math.floor((Math.floor(best / width) * 24) / height), 5);
    // Overshoot below zero is cut off: far away the picture is clear.
    assert.equal(pixel(pixels, 0, height - 1)[3], 0);
  }
});

test("one maximum makes maps comparable, and a map of nothing is clear", () => {
  const weak = overlayPixels(map(0.1, 0.1), [1, 2], { width: 2, height: 1, opacity: 1, maximum: 1 });
  assert.ok(Math.abs(weak.data[3] - 25.5) <= 1);
  const strong = overlayPixels(map(5, 5), [1, 2], { width: 2, height: 1, opacity: 1, maximum: 1 });
  assert.equal(strong.data[3], 255);
  for (const maximum of [undefined, 0]) {
    assert.ok(overlayPixels(map(0, 0), [1, 2], { width: 2, height: 1, ...(maximum === undefined ? {} : { maximum }) }).data.every((value, at) => at % 4 < 3 || value === 0));
  }
});

test("a frame of a video is one of the maps", () => {
  const two = map(0, 0, 1, 0);
  assert.equal(pixel(overlayPixels(two, [1, 2], { width: 2, height: 1 }), 0, 0)[3], 0);
  assert.ok(pixel(overlayPixels(two, [1, 2], { width: 2, height: 1, frame: 1 }), 0, 0)[3] > 0);
});

test("each colour is lighter than the last, in even steps", () => {
  const lightness = ([red, green, blue]) => {
    const linear = (part) => (part <= 10.31475 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4);
    const luminance = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    return 116 * Math.cbrt(luminance) - 16;
  };
  const ramp = Float32Array.from({ length: 11 }, (_, at) => at);
  const pixels = overlayPixels(ramp, [1, 11], { width: 11, height: 1 });
  const seen = Array.from({ length: 11 }, (_, x) => lightness(pixel(pixels, x, 0)));
  const steps = seen.slice(1).map((value, at) => value - seen[at]);
  assert.ok(steps.every((step) => step > 4 && step < 12), steps.map((step) => step.toFixed(1)).join(" "));
});

test("what is wrong is said", () => {
  const one = { width: 2, height: 2 };
  const refused = [
    [map(1, 2, 3), [2, 2], one],
    [map(), [2, 2], one],
    [map(1, 2), [0, 2], one],
    [map(1, 2), [1.5, 2], one],
    [map(1, NaN), [1, 2], one],
    [map(1, 2), [1, 2], { width: 0, height: 2 }],
    [map(1, 2), [1, 2], { width: 2, height: 2.5 }],
    [map(1, 2), [1, 2], { width: 2 }],
    [map(1, 2), [1, 2], { width: 16384, height: 16384 }],
    [map(1, 2), [1, 2], { ...one, opacity: 1.1 }],
    [map(1, 2), [1, 2], { ...one, opacity: NaN }],
    [map(1, 2), [1, 2], { ...one, maximum: -1 }],
    [map(1, 2), [1, 2], { ...one, maximum: Infinity }],
    [map(1, 2), [1, 2], { ...one, colours: [[0, 0, 0]] }],
    [map(1, 2), [1, 2], { ...one, colours: [[0, 0, 0], [0, 0, 256]] }],
    [map(1, 2), [1, 2], { ...one, frame: 1 }],
    [map(1, 2), [1, 2], { ...one, frame: -1 }],
  ];
  for (const call of refused) assert.throws(() => overlayPixels(...call), { code: "bad-option" }, JSON.stringify(call));
});

test("the numbers are those that the crate draws alike", () => {
  const { cases } = JSON.parse(readFileSync(new URL("../../tests/fixtures/overlay.json", import.meta.url), "utf8"));
  for (const { map, grid, width, height, options, pixels } of cases) {
    assert.deepEqual([...overlayPixels(Float32Array.from(map), grid, { width, height, ...options }).data], pixels);
  }
});

test("a bitmap is made of these pixels", async (context) => {
  class Data {
    constructor(data, width, height) {
      Object.assign(this, { data, width, height });
    }
  }
  const before = { ImageData: globalThis.ImageData, createImageBitmap: globalThis.createImageBitmap };
  context.after(() => Object.assign(globalThis, before));
  Object.assign(globalThis, { ImageData: Data, createImageBitmap: async (data) => ({ bitmapOf: data }) });
  const options = { width: 3, height: 2 };
  const { bitmapOf } = await overlay(map(1, 2), [1, 2], options);
  assert.deepEqual({ ...bitmapOf }, { ...overlayPixels(map(1, 2), [1, 2], options) });
  await assert.rejects(overlay(map(1), [1, 2], options), { code: "bad-option" });
});
