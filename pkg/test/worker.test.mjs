import assert from "node:assert/strict";
import test from "node:test";

test("in a worker the script answers messages", async () => {
  const listeners = [];
  const posted = [];
  class Scope {
    static [Symbol.hasInstance] = (value) => value === globalThis;
  }
  const globals = {
    DedicatedWorkerGlobalScope: Scope,
    addEventListener: (type, listener) => type === "message" && listeners.push(listener),
    postMessage: (message, transfer) => posted.push([message, transfer]),
  };
  Object.assign(globalThis, globals);
  try {
    await import("../dist/worker.js?worker");
    assert.equal(listeners.length, 1);
    listeners[0]({ data: { type: "memory", id: 7 } });
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(posted.map(([{ type, id, code }, transfer]) => [type, id, code, transfer]), [["failed", 7, "internal", []]]);
  } finally {
    for (const name of Object.keys(globals)) delete globalThis[name];
  }
});
