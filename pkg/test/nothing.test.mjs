import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { pipeline } from "../dist/compat.js";
import { Gallery } from "../dist/gallery.js";
import { Blip } from "../dist/index.js";
import { serveModel } from "./fake-engine.mjs";
import { fakeHost, picture } from "./fake-gallery.mjs";
import { create, image } from "./instance.mjs";

let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

/** Each of these is an error of the caller's, and not of this package. */
const refused = async (calls) => {
  for (const call of calls) await assert.rejects(async () => call(), { name: "BlipError", code: "bad-option" }, String(call));
};

test("nothing in the place of options is refused with a code", async () => {
  const { blip } = await create();
  await refused([
    () => Blip.create(null),
    () => Blip.availability(null),
    () => pipeline("image-to-text", "tiny", null),
    () => blip.caption(image(), null),
    () => blip.captionStream(image(), null).result,
    () => blip.ask(image(), "what?", null),
    () => blip.match(image(), "a", "itm"),
    () => blip.classify(image(), ["a"], null),
    () => blip.embed({ text: "a" }, null),
    () => blip.explain(image(), "a", 3),
    () => blip.nlvr2([image(), image()], "a", null),
    () => blip.encode(image(), null),
    () => blip.encodeVideo([image()], null),
    () => blip.selfTest(null),
    () => blip.gallery("g", null),
  ]);
});

test("nothing in the place of what a call is about is refused, too", async () => {
  const { blip } = await create();
  const dialogue = { caption: "a", question: "b", candidates: ["c"] };
  await refused([
    () => blip.embed(),
    () => blip.embed(null),
    () => blip.embed("a cat"),
    () => blip.dialogue(image()),
    () => blip.dialogue(image(), null),
    () => blip.dialogue(image(), { ...dialogue, history: "a" }),
    () => blip.dialogue(image(), { ...dialogue, history: [null] }),
    () => blip.dialogue(image(), { ...dialogue, history: [{ question: "a" }] }),
    () => blip.nlvr2(null, "a"),
  ]);
});

test("galleries refuse both likewise", async () => {
  Object.assign(globalThis, { indexedDB: new IDBFactory(), IDBKeyRange });
  const gallery = await Gallery.open(fakeHost(), "g");
  await refused([
    () => gallery.add(),
    () => gallery.add(null),
    () => gallery.add(7),
    () => gallery.add([picture("a")], null),
    () => gallery.search("a", null),
    () => gallery.delete("a", null),
    () => gallery.export(null),
    () => gallery.import(new Uint8Array(), null),
  ]);
});
