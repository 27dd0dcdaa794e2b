import assert from "node:assert/strict";
import { register } from "node:module";
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

/** Scripts of the package as they come from `https://cdn.test/dist/`. */
const CDN = `
  import { readFile } from "node:fs/promises";
  const isOurs = (url) => url?.startsWith("https://cdn.test/dist/");
  export const resolve = async (specifier, context, next) => {
    const url = isOurs(context.parentURL) ? new URL(specifier, context.parentURL).href : specifier;
    return isOurs(url) ? { url, shortCircuit: true } : next(specifier, context);
  };
  export const load = async (url, context, next) => {
    if (!isOurs(url)) return next(url, context);
    const file = new URL("." + new URL(url).pathname, ${JSON.stringify(new URL("..", import.meta.url).href)});
    return { format: "module", source: await readFile(file), shortCircuit: true };
  };
`;

test("scripts of another origin start a worker of the page's, which imports theirs", async () => {
  register(`data:text/javascript,${encodeURIComponent(CDN)}`);
  const { workerChannel } = await import("https://cdn.test/dist/channel.js");
  // The browser may tell later that it refuses a worker: no constructor throws.
  const made = workers(() => false);
  try {
    globalThis.origin = "https://page.test";
    workerChannel()(() => {});
    globalThis.origin = "https://cdn.test";
    workerChannel()(() => {});
  } finally {
    delete globalThis.origin;
  }
  const [foreign, own] = made.map(({ url }) => url);
  assert.match(foreign, /^blob:/);
  assert.equal(await (await fetch(foreign)).text(), 'import "https://cdn.test/dist/worker.js";');
  assert.equal(own, "https://cdn.test/dist/worker.js");
  assert.deepEqual(made[0].options, made[1].options);
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
