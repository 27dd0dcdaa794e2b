/** What the cases in a page have in common. */

import { Blip, BlipError } from "/pkg/index.js";

/** Instances that the cases of a page share, because a software GPU is slow to compile for. */
const shared = new Map();

/** The shared instance of a device, with the packaged model or those of `options`. */
export function instance(device, name = "tiny", options = {}) {
  const key = `${device} ${name}`;
  if (!shared.has(key)) shared.set(key, Blip.create({ device, ...options }));
  return shared.get(key);
}

/** Gives up a shared instance, such as one that is not needed by later cases. */
export async function retire(device, name = "tiny") {
  const key = `${device} ${name}`;
  const found = shared.get(key);
  shared.delete(key);
  await (await found)?.dispose();
}

export function equal(actual, expected, what = "value") {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what} is ${a}, expected ${b}`);
}

export function ensure(held, what) {
  if (!held) throw new Error(what);
}

/** The call must reject with a BlipError of this code. */
export async function rejects(call, code) {
  let result;
  try {
    result = await call();
  } catch (error) {
    ensure(error instanceof BlipError, `${error.name}: ${error.message} is no BlipError`);
    equal(error.code, code, `the code of "${error.message}"`);
    ensure(error.message !== "", "the message is empty");
    return error;
  }
  throw new Error(`resolved to ${JSON.stringify(result)}, expected ${code}`);
}

/** Addresses of the sample pictures. */
export async function samples() {
  const list = await (await fetch("/samples/samples.json")).json();
  return list.map(({ image }) => new URL(`/samples/${image}`, location.href).href);
}

/** The file of the first one. */
export async function sampleBytes() {
  const [first] = await samples();
  return new Uint8Array(await (await fetch(first)).arrayBuffer());
}

/**
 * Compares what was answered with what was expected: names, texts, integers and order exactly, other numbers
 * within `tolerance` (absolute, and relative to numbers above 1). Only what is expected is compared. Returns
 * the greatest difference.
 */
export function close(actual, expected, tolerance, path = "results") {
  if (typeof expected === "number" && !Number.isInteger(expected)) {
    const difference = Math.abs(actual - expected) / Math.max(1, Math.abs(expected));
    ensure(difference <= tolerance, `${path} is ${actual}, expected ${expected} within ${tolerance}`);
    return difference;
  }
  if (expected === null || typeof expected !== "object") {
    // A number that happens to be whole may be one among others that are not.
    if (typeof expected === "number" && Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected))) return 0;
    ensure(actual === expected, `${path} is ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`);
    return 0;
  }
  ensure(actual !== null && typeof actual === "object", `${path} is ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`);
  if (typeof expected.length === "number") equal(actual.length, expected.length, `the length of ${path}`);
  const differences = Object.keys(expected).map((key) => close(actual[key], expected[key], tolerance, `${path}.${key}`));
  return Math.max(0, ...differences);
}
