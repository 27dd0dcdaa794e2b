/** The picture that both engines see: seeded noise, already normalised. The same as in bench/ort/forward.py. */

/** `[3, size, size]` in [-1, 1), from a linear congruential generator. */
export function picture(size) {
  const pixels = new Float32Array(3 * size * size);
  let state = 12345;
  for (let i = 0; i < pixels.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    pixels[i] = state / 2147483648 - 1;
  }
  return pixels;
}

/** The same noise as 8-bit RGBA rows, for an engine that normalises by itself. */
export function rgbaPicture(size) {
  const noise = picture(size);
  const rgba = new Uint8ClampedArray(4 * size * size);
  const plane = size * size;
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++) rgba[4 * i + channel] = 127.5 * (noise[channel * plane + i] + 1);
    rgba[4 * i + 3] = 255;
  }
  return new Uint8Array(rgba.buffer);
}
