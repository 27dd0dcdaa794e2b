/** Maps of `explain` as pictures: smooth, coloured, and clear where there is nothing to see. */

import { BlipError } from "./protocol.js";
import type { RelevanceMap } from "./results.js";

/** A colour: red, green and blue from 0 to 255. */
export type Colour = readonly [red: number, green: number, blue: number];

/** How to show a map. */
export interface OverlayOptions {
  /** Width in pixels: usually that of the image, or of where it is shown. */
  readonly width: number;
  /** Height in pixels. */
  readonly height: number;
  /** How much of the image is covered where the map is highest, from 0 to 1. Default 0.7. */
  readonly opacity?: number;
  /**
   * The value that gets the last colour; default the highest of the map. Give the same for several words, and their
   * overlays can be compared.
   */
  readonly maximum?: number;
  /** Colours from nothing to the maximum, at least two. By default violet, red, orange, yellow, each lighter than the last. */
  readonly colours?: readonly Colour[];
  /** Of a video's map: which frame, from 0. Default 0. */
  readonly frame?: number;
}

/** Pixels of an overlay: red, green, blue and opacity of each, row by row, colours not multiplied by opacity. */
export interface OverlayPixels {
  readonly data: Uint8ClampedArray<ArrayBuffer>;
  readonly width: number;
  readonly height: number;
}

/** Lightness grows in even steps, so that the order is seen without colour as well. */
const COLOURS: readonly Colour[] = [
  [46, 16, 90],
  [110, 30, 125],
  [178, 50, 110],
  [228, 88, 72],
  [250, 150, 56],
  [252, 222, 110],
];

/** Sides of a picture that browsers hold, and pixels of one that are worth holding. */
const LONGEST = 16384;
const MOST = 1 << 26;

/** Colours are looked up in so many steps. */
const STEPS = 256;

/**
 * A map as an image to draw over the picture that was explained.
 *
 * ```js
 * const { words, grid } = await blip.explain(file, "a dog on a sofa");
 * context.drawImage(picture, 0, 0);
 * context.drawImage(await overlay(words[1].map, grid, { width: picture.width, height: picture.height }), 0, 0);
 * ```
 *
 * Works on a page and in a worker. The bitmap is the caller's to close.
 *
 * @throws BlipError `bad-option` for a map of another grid, or an option out of its range.
 */
export async function overlay(
  map: RelevanceMap,
  grid: readonly [height: number, width: number],
  options: OverlayOptions,
): Promise<ImageBitmap> {
  const { data, width, height } = overlayPixels(map, grid, options);
  return createImageBitmap(new ImageData(data, width, height));
}

/**
 * As {@link overlay}, as pixels: for `ImageData`, textures, or a server without either.
 *
 * Values between the places of the grid are interpolated by cubic splines that go through them.
 *
 * @throws BlipError `bad-option`, as {@link overlay}.
 */
export function overlayPixels(
  map: RelevanceMap,
  grid: readonly [height: number, width: number],
  options: OverlayOptions,
): OverlayPixels {
  const { width, height, opacity = 0.7, colours = COLOURS, frame = 0 } = options;
  const [rows, columns] = grid;
  for (const [name, value] of Object.entries({ width, height })) {
    if (!isCount(value) || value < 1 || value > LONGEST) throw bad(`${name} is ${value}, expected 1 to ${LONGEST}`);
  }
  if (width * height > MOST) throw bad(`width and height make ${width * height} pixels, at most ${MOST} are drawn`);
  if (!(opacity >= 0 && opacity <= 1)) throw bad(`opacity is ${opacity}, expected 0 to 1`);
  if (colours.length < 2 || !colours.flat().every((part) => part >= 0 && part <= 255)) {
    throw bad("colours are at least two, of red, green and blue from 0 to 255");
  }
  const places = rows * columns;
  if (!isCount(rows) || !isCount(columns) || places < 1 || map.length === 0 || map.length % places !== 0) {
    throw bad(`a map of ${map.length} numbers does not belong to a grid of ${rows} by ${columns}`);
  }
  if (!isCount(frame) || frame >= map.length / places) throw bad(`frame is ${frame}, the map has ${map.length / places}`);
  const values = map.slice(frame * places, (frame + 1) * places);
  if (!values.every(Number.isFinite)) throw bad("a map has numbers only");
  const maximum = options.maximum ?? values.reduce((highest, value) => Math.max(highest, value), 0);
  if (!(maximum >= 0 && maximum < Infinity)) throw bad(`maximum is ${maximum}, expected a number of at least 0`);

  const palette = paletteOf(colours, opacity);
  const across = taps(columns, width);
  // Each row of the grid at full width, of which each row of pixels is a mixture.
  const wide = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let tap = 4 * x; tap < 4 * x + 4; tap++) {
        sum += (across.weights[tap] ?? 0) * (values[row * columns + (across.indices[tap] ?? 0)] ?? 0);
      }
      wide[row * width + x] = sum;
    }
  }
  const down = taps(rows, height);
  const data = new Uint8ClampedArray(width * height * 4);
  const scale = maximum > 0 ? (STEPS - 1) / maximum : 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let tap = 4 * y; tap < 4 * y + 4; tap++) {
        sum += (down.weights[tap] ?? 0) * (wide[(down.indices[tap] ?? 0) * width + x] ?? 0);
      }
      const step = Math.min(Math.max(Math.round(sum * scale), 0), STEPS - 1);
      data.set(palette.subarray(4 * step, 4 * step + 4), 4 * (y * width + x));
    }
  }
  return { data, width, height };
}

/** Red, green, blue and opacity of each step: opacity grows with the value, so that nothing leaves the picture clear. */
function paletteOf(colours: readonly Colour[], opacity: number): Uint8ClampedArray {
  const palette = new Uint8ClampedArray(4 * STEPS);
  for (let step = 0; step < STEPS; step++) {
    const at = step / (STEPS - 1);
    const place = at * (colours.length - 1);
    const below = Math.min(Math.floor(place), colours.length - 2);
    for (let part = 0; part < 3; part++) {
      const [low, high] = [colours[below]?.[part] ?? 0, colours[below + 1]?.[part] ?? 0];
      palette[4 * step + part] = low + (high - low) * (place - below);
    }
    palette[4 * step + 3] = 255 * opacity * at;
  }
  return palette;
}

/** Which four of `from` samples make each of `to`, and how much of each: Catmull-Rom, borders repeated. */
function taps(from: number, to: number): { indices: Uint32Array; weights: Float32Array } {
  const indices = new Uint32Array(4 * to);
  const weights = new Float32Array(4 * to);
  for (let index = 0; index < to; index++) {
    const place = ((index + 0.5) * from) / to - 0.5;
    const floor = Math.floor(place);
    const t = place - floor;
    const near = (t: number): number => (1.5 * t - 2.5) * t * t + 1;
    const far = (t: number): number => ((-0.5 * t + 2.5) * t - 4) * t + 2;
    weights.set([far(1 + t), near(t), near(1 - t), far(2 - t)], 4 * index);
    for (let tap = 0; tap < 4; tap++) indices[4 * index + tap] = Math.min(Math.max(floor + tap - 1, 0), from - 1);
  }
  return { indices, weights };
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function bad(message: string): BlipError {
  return new BlipError("bad-option", `overlay: ${message}`);
}
