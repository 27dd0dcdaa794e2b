import assert from "node:assert/strict";
import test from "node:test";

test("importing the package does no work, so a server can render with it", async () => {
  const touched = [];
  const forbid = (name) => {
    const original = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, {
      configurable: true,
      get() {
        touched.push(name);
        return original?.value;
      },
    });
    return () => (original ? Object.defineProperty(globalThis, name, original) : delete globalThis[name]);
  };
  const restore = ["fetch", "Worker", "navigator", "document", "caches", "self", "window", "OffscreenCanvas", "addEventListener", "postMessage"].map(forbid);
  try {
    const module = await import("../dist/index.js");
    for (const entry of ["compat", "react", "worker"]) await import(`../dist/${entry}.js`);
    const names = ["Blip", "BlipError", "BlipEvent", "ERROR_CODES", "EncodedImage", "overlay", "overlayPixels"];
    assert.deepEqual(Object.keys(module).sort(), names);
  } finally {
    for (const undo of restore) undo();
  }
  assert.deepEqual(touched, []);
});
