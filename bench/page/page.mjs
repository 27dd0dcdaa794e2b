/** The page around our engine; `window.bench` is driven by bench/run.mjs. */

import { installCounters } from "./counters.mjs";

// Before the engine is imported: it may keep the methods it finds.
const counters = installCounters();
const { open } = await import("./engine.mjs");

let engine;

/** Opens a device and loads a model: milliseconds, and how large the wasm heap became. */
async function load({ device, model, warmUp }) {
  const begun = performance.now();
  engine = await open(device);
  const opened = performance.now();
  await engine.load(new URL(`/models/${model}/blip.json`, location.href).href);
  const loaded = performance.now();
  const heap = engine.heap();
  if (warmUp) await engine.warmUp();
  return {
    adapter: engine.adapter(),
    openMs: opened - begun,
    loadMs: loaded - opened,
    warmUpMs: warmUp ? performance.now() - loaded : null,
    heap,
    counters: counters(),
  };
}

window.bench = {
  load,
  counters,
  vision: () => engine.vision(),
  caption: (options) => engine.caption(options),
  heap: () => engine.heap(),
};
