/** Instances over fake workers, for the tests. */

import { Blip, BlipError } from "../dist/index.js";
import { fakeModule, FakeWorker } from "./fake-engine.mjs";

/** An instance; `log` is what its engines were asked for, `engines` all that were opened. */
export async function create(overrides = {}, options = {}) {
  const log = [];
  const engines = [];
  let worker;
  const createWorker = () => (worker = new FakeWorker(fakeModule(overrides, log, engines)));
  const blip = await Blip.create({ device: "cpu", modelBase: "https://example.test/models", createWorker, ...options });
  return { blip, log, worker, engines };
}

/** Resolves to how a promise ended, so that a hang fails by the test's own time limit. */
export const outcome = (promise) =>
  promise.then(
    () => "resolved",
    (error) => (error instanceof BlipError ? error.code : error.name),
  );

/** An image of so many bytes. */
export const image = (size = 3) => new Uint8Array(size).fill(1);

/** Lets messages arrive. */
export const settle = (ms = 20) => new Promise((resolve) => setTimeout(resolve, ms));
