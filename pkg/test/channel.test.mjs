import assert from "node:assert/strict";
import test, { afterEach } from "node:test";
import { workerChannel } from "../dist/channel.js";

const original = globalThis.Worker;
afterEach(() => (globalThis.Worker = original));

/** Workers of which some addresses are refused, as those of another origin are. */
function workers(refuses) {
  const made = [];
  globalThis.Worker = class {
    constructor(url, options) {
      if (refuses(String(url))) throw new DOMException("cannot be accessed from this origin", "SecurityError");
      this.listeners = [];
      made.push({ url: String(url), options, worker: this });
    }
    addEventListener(_type, listener) {
      this.listeners.push(listener);
    }
    postMessage() {}
    terminate() {}
  };
  return made;
}

test("the worker of the package is a module beside its scripts", () => {
  const made = workers(() => false);
  workerChannel()(() => {});
  assert.match(made[0].url, /\/dist\/worker\.js$/);
  assert.deepEqual(made[0].options, { type: "module", name: "blip" });
});

test("where its origin is refused and it is no http address, the refusal is told with a way out", () => {
  workers(() => true);
  assert.throws(() => workerChannel()(() => {}), { code: "internal", message: /cannot be accessed.*worker: false/s });
});

test("an error that is not about the origin is not worked around", () => {
  globalThis.Worker = class {
    constructor() {
      throw new TypeError("no workers");
    }
  };
  assert.throws(() => workerChannel()(() => {}), { code: "internal", message: /no workers/ });
});
