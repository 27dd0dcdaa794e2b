/** The cases of the SDK by suite, in their order: in a browser with WebGPU and in one without. */

import { CASES as galleries } from "./gallery-cases.mjs";
import { CASES as life } from "./life-cases.mjs";
import { CASES as sdk } from "./sdk-cases.mjs";
import { CASES as sources } from "./source-cases.mjs";
import { CASES as stress } from "./stress-cases.mjs";
import { CASES as tasks } from "./task-cases.mjs";

const SUITES = {
  webgpu: { ...sdk.webgpu, ...life.webgpu, ...tasks.webgpu, ...stress.webgpu },
  // Those of galleries load the page anew, and with it what the others share.
  plain: { ...sdk.plain, ...sources.plain, ...tasks.plain, ...stress.plain, ...life.plain, ...galleries.plain },
};

/** The names of a suite's cases, in order. */
export const names = (suite) => Object.keys(SUITES[suite]);

/** Runs one case: nothing when it held, else what was wrong. */
export async function run(suite, name) {
  try {
    await SUITES[suite][name]();
    return null;
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}
