import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { IDBFactory, IDBKeyRange, IDBObjectStore } from "fake-indexeddb";
import { deleteGallery, listGalleries } from "../dist/gallery-store.js";
import { Gallery } from "../dist/gallery.js";
import { fakeHost, fakeModule, picture } from "./fake-gallery.mjs";

let restore = () => {};
beforeEach(() => Object.assign(globalThis, { indexedDB: new IDBFactory(), IDBKeyRange }));
afterEach(() => {
  restore();
  restore = () => {};
});

const texts = (count, from = 0) => Array.from({ length: count }, (_, index) => `picture ${String(from + index).padStart(3, "0")}`);
const pictures = (count, from) => texts(count, from).map((text) => picture(text));
const contents = async (result) => (await result.blob())?.text();
/** All that is there, in a tab of its own. */
async function all(name = "g") {
  const gallery = await Gallery.open(fakeHost(), name);
  const found = await gallery.search("anything", { topK: 1000 });
  return found.map(({ key }) => key).sort();
}

test("images are encoded together, once for each content, and found again", async () => {
  const host = fakeHost();
  const gallery = await Gallery.open(host, "g");
  const steps = [];
  const list = [...pictures(10), picture("picture 003", "copy.png"), ...pictures(4)];
  const result = await gallery.add(list, { onProgress: (step) => steps.push(step) });
  assert.deepEqual(result, { added: 10, skipped: 5, failed: [] });
  assert.deepEqual(host.log.map((batch) => batch.length), [8, 2]);
  assert.deepEqual(steps.at(-1), { done: 15, total: 15, added: 10, skipped: 5, failed: 0 });
  assert.ok(steps.every((step, index) => index === 0 || step.done >= steps[index - 1].done));
  assert.equal(gallery.size, 10);

  const [best, second, ...rest] = await gallery.search(picture("picture 004"), { topK: 3 });
  assert.equal(best.key, "picture 004.png");
  assert.ok(best.score > 0.999 && best.score === best.cosine && second.score <= best.score && rest.length === 1);
  assert.equal(await contents(best), "picture 004");
  assert.match(best.hash, /^[0-9a-f]{64}$/);
  assert.equal((await gallery.search("words")).length, 10, "twelve at most");
});

test("a page that was reloaded finds everything, and adds only what is new", async () => {
  await (await Gallery.open(fakeHost(), "g")).add(pictures(5));
  const host = fakeHost();
  const gallery = await Gallery.open(host, "g");
  assert.equal(gallery.size, 5);
  assert.deepEqual(await gallery.add(pictures(7)), { added: 2, skipped: 5, failed: [] });
  assert.deepEqual(host.log, [["picture 005", "picture 006"]]);
  const [best] = await gallery.search(picture("picture 001"), { topK: 1 });
  assert.equal(await contents(best), "picture 001");
});


test("an add that is aborted keeps its batches, and goes on from there", async () => {
  const host = fakeHost();
  const gallery = await Gallery.open(host, "g");
  const controller = new AbortController();
  const reason = new Error("enough");
  const onProgress = ({ added }) => added >= 8 && controller.abort(reason);
  await assert.rejects(gallery.add(pictures(20), { signal: controller.signal, onProgress }), (error) => error === reason);
  assert.equal((await all()).length, 8);
  host.log.length = 0;
  assert.deepEqual(await gallery.add(pictures(20)), { added: 12, skipped: 8, failed: [] });
  assert.equal(host.log.flat().length, 12);
  assert.deepEqual(await all(), texts(20).map((text) => `${text}.png`));
});

test("a signal ends the wait for images that never come, and tells their source", async () => {
  const gallery = await Gallery.open(fakeHost(), "g");
  const controller = new AbortController();
  let isClosed = false;
  const endless = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => {}),
      return: async () => ((isClosed = true), { done: true }),
    }),
  };
  const adding = gallery.add(endless, { signal: controller.signal });
  setTimeout(() => controller.abort(new Error("enough")), 5);
  await assert.rejects(adding, /enough/);
  assert.ok(isClosed);
});

test("images come from generators, with keys of their own and without names", async () => {
  const gallery = await Gallery.open(fakeHost(), "g");
  async function* some() {
    yield { key: "first", image: new TextEncoder().encode("one") };
    yield new TextEncoder().encode("two").buffer;
    yield new Blob(["three"]);
  }
  const steps = [];
  await gallery.add(some(), { onProgress: (step) => steps.push(step) });
  assert.ok(steps.length > 0 && steps.every((step) => !("total" in step)));
  const found = await gallery.search(picture("one"), { topK: 3 });
  assert.equal(found[0].key, "first");
  assert.ok(found.slice(1).every(({ key, hash }) => key === hash), "what has no name is called by its hash");
});

test("images that cannot be read are named, and do not stop the others", async () => {
  const gallery = await Gallery.open(fakeHost(), "g");
  const list = [...pictures(3), picture("bad one"), ...pictures(3, 3), picture("bad two"), 17, ...pictures(3, 6)];
  const { added, failed } = await gallery.add(list);
  assert.equal(added, 9);
  assert.deepEqual(failed.map(({ key, code }) => `${key} ${code}`).sort(), [
    "an image without a name bad-image",
    "bad one.png bad-image",
    "bad two.png bad-image",
  ]);
  assert.ok(failed.every(({ message }) => message.length > 0));
});

test("a fault of the engine ends an add, and what was stored stays", async () => {
  const host = fakeHost();
  const gallery = await Gallery.open(host, "g");
  const { embedImages } = host;
  const fault = Object.assign(new Error("lost"), { code: "device-lost" });
  host.embedImages = async (...args) => (host.log.length === 1 ? Promise.reject(fault) : embedImages(...args));
  await assert.rejects(gallery.add(pictures(20)), (error) => error === fault);
  assert.equal((await all()).length, 8);
});

test("the best are looked at again, and come first", async () => {
  const gallery = await Gallery.open(fakeHost(), "g");
  const names = ["zebra", "apple", "mole", "bird", "cat", "yak"];
  await gallery.add(names.map((name) => picture(name)));
  const plain = await gallery.search("words", { topK: 6 });
  const again = await gallery.search("words", { topK: 5, rerank: 4 });
  assert.equal(again.length, 5);
  const letters = plain.slice(0, 4).map(({ key }) => key).sort().reverse();
  assert.deepEqual(again.slice(0, 4).map(({ key }) => key), letters, "by the first letter, backwards");
  assert.equal(again[4].key, plain[4].key);
  assert.ok(again.slice(0, 4).every(({ itm, cosine, score }) => score === itm.logit + cosine && itm.probability === 0.5));
  assert.equal(again[4].itm, undefined);
  const wide = await gallery.search("words", { topK: 2, rerank: 6 });
  assert.deepEqual(wide.map(({ key }) => key), ["zebra.png", "yak.png"], "more are looked at than asked for");
});

test("without kept images, the caller brings those that are looked at again", async () => {
  const gallery = await Gallery.open(fakeHost(), "g", { keepImages: false });
  await gallery.add(["ant", "bee", "cow"].map((name) => picture(name)));
  const [found] = await gallery.search("words", { topK: 1 });
  assert.equal(await found.blob(), undefined);
  await assert.rejects(gallery.search("words", { rerank: 2 }), { code: "bad-option", message: /resolve/ });
  const resolve = async (key) => (key === "bee.png" ? undefined : picture(key.startsWith("cow") ? "bad" : key));
  const again = await gallery.search("words", { rerank: 3, resolve });
  assert.deepEqual(again.map(({ itm }) => itm !== undefined), [true, false, false], "one is gone, one is none");
  assert.equal(again[0].key, "ant.png");
});

test("what makes no sense is refused", async () => {
  const host = fakeHost();
  const gallery = await Gallery.open(host, "g");
  const cases = [
    () => Gallery.open(host, ""),
    () => Gallery.open(host, 3),
    () => Gallery.open(host, "x".repeat(1000)),
    () => Gallery.open(host, "g", { keepImage: false }),
    () => gallery.add([], { batch: 9 }),
    () => gallery.add([], { batch: 0 }),
    () => gallery.add([], { batches: 1 }),
    () => gallery.search("a", { topK: -1 }),
    () => gallery.search("a", { topK: 1.5 }),
    () => gallery.search("a", { top: 5 }),
    () => gallery.search(picture("a"), { rerank: 5 }),
  ];
  for (const call of cases) await assert.rejects(call(), { code: "bad-option" }, String(call));
  host.state.loaded = {};
  await assert.rejects(Gallery.open(host, "other"), { code: "task-unsupported", message: /itc/ });
});

test("images are removed by key and by hash", async () => {
  const gallery = await Gallery.open(fakeHost(), "g");
  await gallery.add([...pictures(4), picture("another", "picture 000.png")]);
  const [{ hash }] = await gallery.search(picture("picture 002"), { topK: 1 });
  assert.equal(await gallery.delete(["picture 000.png", hash, "none"]), 3, "both of that name");
  assert.equal(gallery.size, 2);
  assert.equal(await gallery.delete("none"), 0);
  assert.deepEqual(await all(), ["picture 001.png", "picture 003.png"]);
  const again = await Gallery.open(fakeHost(), "g");
  assert.equal(await again.delete("picture 003.png"), 1);
  assert.deepEqual((await gallery.search("x")).map(({ key }) => key), ["picture 001.png"]);
  await gallery.clear();
  assert.equal(gallery.size, 0);
  assert.deepEqual(await gallery.search("x"), []);
  assert.deepEqual(await gallery.add(pictures(1)), { added: 1, skipped: 0, failed: [] }, "and added again");
});

test("removing does not read the vectors again", async () => {
  const log = [];
  const gallery = await Gallery.open(fakeHost({ module: fakeModule(log) }), "g");
  await gallery.add(pictures(6));
  await gallery.search("x");
  const before = log.length;
  await gallery.delete("picture 001.png");
  assert.equal((await gallery.search("x")).length, 5);
  assert.equal(log.length, before);
});

test("a gallery is exported, and imported once", async () => {
  const gallery = await Gallery.open(fakeHost(), "g");
  await gallery.add(pictures(5));
  const file = await gallery.export();
  assert.ok(file instanceof Blob && file.size > 0);
  const other = await Gallery.open(fakeHost(), "h");
  await other.add(pictures(2));
  assert.deepEqual(await other.import(file), { added: 3, skipped: 2 });
  assert.equal(other.size, 5);
  assert.deepEqual(await all("h"), await all("g"));
  assert.deepEqual(await other.import(await file.arrayBuffer()), { added: 0, skipped: 5 });
  const foreign = await Gallery.open(fakeHost({ fingerprint: "another" }), "i");
  await assert.rejects(foreign.import(file), { code: "bad-option", message: /another model/ });
});

test("a gallery of another model is refused", async () => {
  await (await Gallery.open(fakeHost(), "g")).add(pictures(1));
  const refused = Gallery.open(fakeHost({ fingerprint: "another" }), "g");
  await assert.rejects(refused, { code: "bad-option", message: /`g` is of another model: of `model`, expected `another`/ });
  assert.deepEqual(await all(), ["picture 000.png"]);
});

test("a full storage is an error, and nothing is lost or half there", async () => {
  const host = fakeHost();
  const gallery = await Gallery.open(host, "g");
  const { put } = IDBObjectStore.prototype;
  restore = () => (IDBObjectStore.prototype.put = put);
  let room = 10;
  IDBObjectStore.prototype.put = function (value, key) {
    if (value instanceof Blob && room-- <= 0) throw new DOMException("no room", "QuotaExceededError");
    return put.call(this, value, key);
  };
  await assert.rejects(gallery.add(pictures(20)), { code: "quota", message: /full/ });
  assert.equal((await gallery.search("x", { topK: 100 })).length, 8, "the batch that did not fit is not found either");
  assert.equal((await all()).length, 8);
  room = Infinity;
  assert.deepEqual(await gallery.add(pictures(20)), { added: 12, skipped: 8, failed: [] });
});

test("tabs see what others add and remove", async () => {
  const [first, second] = [await Gallery.open(fakeHost(), "g"), await Gallery.open(fakeHost(), "g")];
  await first.add(pictures(3));
  assert.equal((await second.search("x")).length, 3);
  assert.deepEqual(await second.add(pictures(5)), { added: 2, skipped: 3, failed: [] });
  assert.equal((await first.search("x")).length, 5);
  await first.delete("picture 000.png");
  assert.equal((await second.search("x")).length, 4);
  assert.deepEqual(await second.add(pictures(1)), { added: 1, skipped: 0, failed: [] });
  await second.clear();
  assert.deepEqual(await first.search("x"), []);
});

test("two tabs that add the same images at the same time store each once", async () => {
  const tabs = await Promise.all([0, 1, 2].map(() => Gallery.open(fakeHost(), "g")));
  const results = await Promise.all(tabs.map((tab) => tab.add(pictures(20))));
  assert.equal(results.reduce((sum, { added }) => sum + added, 0), 20);
  assert.ok(results.every(({ added, skipped }) => added + skipped === 20));
  assert.equal((await all()).length, 20);
  for (const tab of tabs) assert.equal((await tab.search("x", { topK: 100 })).length, 20);
});

test("galleries are listed and deleted, also while they are open", async () => {
  const gallery = await Gallery.open(fakeHost(), "b");
  await gallery.add(pictures(3));
  await Gallery.open(fakeHost(), "a");
  assert.deepEqual(await listGalleries(), ["a", "b"]);
  await deleteGallery("b");
  assert.deepEqual(await listGalleries(), ["a"]);
  assert.deepEqual(await gallery.search("x"), [], "it is empty");
  assert.deepEqual(await gallery.add(pictures(2)), { added: 2, skipped: 0, failed: [] }, "and can be filled again");
  assert.equal((await gallery.search("x")).length, 2);
});

test("vectors are read again into a new module", async () => {
  const host = fakeHost();
  const gallery = await Gallery.open(host, "g");
  await gallery.add(pictures(5));
  const log = [];
  host.state.module = fakeModule(log);
  assert.equal((await gallery.search("x")).length, 5);
  assert.equal(log.filter((line) => line.startsWith("restore")).length, 5);
});

test("a closed gallery takes no calls; the last one to close frees the vectors", async () => {
  const host = fakeHost();
  const [first, second] = [await Gallery.open(host, "g"), await Gallery.open(host, "g")];
  await first.add(pictures(2));
  await first.close();
  await first.close();
  await assert.rejects(first.search("x"), { code: "disposed" });
  await assert.rejects(first.add(pictures(1)), { code: "disposed" });
  assert.equal((await second.search("x")).length, 2);
  await second.close();
  await assert.rejects(host.index("size", ["g"]), { code: "disposed" });
  await assert.rejects(second.delete("x"), { code: "disposed" });
  const third = await Gallery.open(host, "g");
  assert.equal(third.size, 2);
  await host.engine.close();
});

test("without IndexedDB there are no galleries", async () => {
  globalThis.indexedDB = undefined;
  await assert.rejects(Gallery.open(fakeHost(), "g"), { code: "feature-missing" });
  await assert.rejects(listGalleries(), { code: "feature-missing" });
});
