import assert from "node:assert/strict";
import test from "node:test";
import { baseAddress } from "../dist/location.js";
import { resolveModel } from "../dist/sources.js";
import { serveModel } from "./fake-engine.mjs";
import { create } from "./instance.mjs";

const PAGE = "https://page.test/app/index.html";
const resolve = (model, options = {}) => resolveModel(model, options, PAGE).sources;
const one = (model, options) => resolve(model, options)[0].source;

test("a name is a directory of the package's models, or of modelBase", () => {
  assert.deepEqual(resolveModel("tiny", {}, import.meta.url).sources, [
    { source: { kind: "manifest", url: new URL("../models/tiny/blip.json", import.meta.url).href } },
  ]);
  // A bundler put the address of a file in the place of the script's: then the page's.
  assert.deepEqual(one("tiny"), { kind: "manifest", url: "https://page.test/app/models/tiny/blip.json" });
  for (const modelBase of ["/m", "/m/", new URL("https://page.test/m/")]) {
    assert.deepEqual(one("tiny", { modelBase }), { kind: "manifest", url: "https://page.test/m/tiny/blip.json" });
  }
});

test("an address is a manifest or its directory, relative to the page", () => {
  for (const model of ["./m/", "/app/m/blip.json", "../app/m/", "https://page.test/app/m/", new URL("https://page.test/app/m/blip.json")]) {
    assert.deepEqual(one(model), { kind: "manifest", url: "https://page.test/app/m/blip.json" }, String(model));
  }
  assert.deepEqual(one("tiny", { modelUrl: "m/" }), { kind: "manifest", url: "https://page.test/app/m/blip.json" });
});

test("addresses are relative to the page, and in a worker to its script", () => {
  const at = (globals) => {
    Object.assign(globalThis, globals);
    try {
      return baseAddress();
    } finally {
      for (const name of Object.keys(globals)) delete globalThis[name];
    }
  };
  const script = { href: "https://page.test/app/worker.js", origin: "https://page.test" };
  assert.equal(at({ document: { baseURI: PAGE }, location: { href: "https://other.test/" } }), PAGE);
  assert.equal(at({ location: script }), script.href);
  assert.equal(at({ location: { ...script, href: "blob:https://page.test/0-1" } }), "https://page.test/");
  assert.match(at({ location: { href: "data:text/javascript,0", origin: "null" } }), /dist\/location\.js$/);
  assert.match(at({}), /dist\/location\.js$/);
});

test("`create` in a worker takes them so", async () => {
  const restore = serveModel();
  const asked = [];
  const { fetch } = globalThis;
  globalThis.fetch = (url, init) => (asked.push(String(url)), fetch(url, init));
  globalThis.location = { href: "https://page.test/app/worker.js", origin: "https://page.test" };
  try {
    await create({}, { modelBase: "../models/" });
  } finally {
    delete globalThis.location;
    restore();
  }
  assert.equal(asked[0], "https://page.test/models/tiny/blip.json");
});

test("owner/name is a repository, with a revision and another endpoint where they are given", () => {
  assert.deepEqual(one("Salesforce/blip-image-captioning-base"), {
    kind: "hub",
    repo: "Salesforce/blip-image-captioning-base",
    endpoint: "https://huggingface.co",
  });
  assert.deepEqual(one("a/b@refs/pr/1", { endpoint: "/hub/" }), {
    kind: "hub",
    repo: "a/b",
    revision: "refs/pr/1",
    endpoint: "https://page.test/hub",
  });
});

test("tasks may come from different models; equal ones are one source", () => {
  assert.deepEqual(resolve({ vqa: "a/vqa", caption: "/m/", itm: "a/itm", itc: "a/itm" }), [
    { source: { kind: "manifest", url: "https://page.test/m/blip.json" }, tasks: ["caption"] },
    { source: { kind: "hub", repo: "a/vqa", endpoint: "https://huggingface.co" }, tasks: ["vqa"] },
    { source: { kind: "hub", repo: "a/itm", endpoint: "https://huggingface.co" }, tasks: ["itm", "itc"] },
  ]);
});

test("anything else is bad-option and says what is expected", () => {
  const wrong = ["", "a b", "a/b/c", "a/b@", "a/b@../x", "@a", "..", null, 3, {}, { captions: "tiny" }, { caption: 3 }, []];
  for (const model of wrong) {
    assert.throws(() => resolve(model), { code: "bad-option", message: /^model/ }, JSON.stringify(model));
  }
  assert.throws(() => resolve("tiny", { modelBase: "https://" }), { code: "bad-option", message: /modelBase is not an address/ });
  assert.throws(() => resolve("a/b", { endpoint: "https://" }), { code: "bad-option", message: /endpoint is not an address/ });
  assert.throws(() => resolve("https://"), { code: "bad-option", message: /model is not an address/ });
});
