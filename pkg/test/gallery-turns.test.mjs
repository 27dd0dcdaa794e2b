import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { GalleryEngine } from "../dist/gallery-engine.js";
import { GalleryStore } from "../dist/gallery-store.js";
import { Blip } from "../dist/index.js";
import { fakeModule as engineModule, FakeWorker, serveModel } from "./fake-engine.mjs";
import { fakeModule as galleryModule } from "./fake-gallery.mjs";
import { image, outcome, settle } from "./instance.mjs";

let restore;
beforeEach(() => {
  Object.assign(globalThis, { indexedDB: new IDBFactory(), IDBKeyRange });
  restore = serveModel();
});
afterEach(() => restore());

const entries = (count) => Array.from({ length: count }, (_, index) => ({ hash: `hash ${index}`, key: `key ${index}`, record: new Uint8Array(16) }));

/** An instance whose galleries are searched by a fake index; `log` is what the engine and the index were asked for. */
async function instance() {
  const log = [];
  const worker = () => new FakeWorker({ ...engineModule({}, log), ...galleryModule(log) });
  const blip = await Blip.create({ device: "cpu", modelBase: "https://example.test/models", worker });
  const restored = () => log.filter((line) => line.startsWith("restore")).length;
  return { blip, log, restored };
}

/** A gallery of so many pictures, made before. */
async function filled(name, count) {
  const store = new GalleryStore(name, "print", 4);
  await store.add(entries(count));
  await store.close();
}

test("opening a large gallery lets others have their turn after each page", async () => {
  await filled("g", 4500);
  const { blip, log } = await instance();
  const opening = blip.gallery("g");
  await settle(1);
  await blip.caption(image(3));
  const before = log.slice(0, log.indexOf("end caption bytes:3")).filter((line) => line.startsWith("restore")).length;
  assert.ok(before <= 2000, `${before} vectors were read first`);
  assert.equal((await opening).size, 4500);
});

test("opening a large gallery is aborted after a page, and leaves nothing open", async () => {
  await filled("g", 6500);
  const { blip, restored } = await instance();
  const controller = new AbortController();
  const opening = outcome(blip.gallery("g", { signal: controller.signal }));
  while (restored() === 0) await settle(1);
  controller.abort();
  assert.equal(await opening, "AbortError");
  await settle(50);
  assert.ok(restored() < 6500, `${restored()} vectors were read`);
  await Blip.galleries.delete("g");
  assert.equal((await blip.gallery("g")).size, 0, "it is not held open");
  await assert.rejects(blip.gallery("g", { signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("an import takes turns and is aborted after a part, which stays", async () => {
  await filled("from", 3500);
  const { blip } = await instance();
  const file = await (await blip.gallery("from")).export();
  const gallery = await blip.gallery("to");
  const controller = new AbortController();
  const store = new GalleryStore("to", "print", 4);
  const importing = outcome(gallery.import(file, { signal: controller.signal }));
  while ((await store.state()).seq === 0) await settle(1);
  controller.abort();
  assert.equal(await importing, "AbortError");
  await settle(50);
  const { seq: kept } = await store.state();
  assert.ok(kept > 0 && kept < 3500, `${kept} pictures were added`);
  let other;
  const again = gallery.import(file).then((result) => (other ??= "import", result));
  await settle(1);
  await blip.caption(image(3)).then(() => (other ??= "caption"));
  assert.deepEqual(await again, { added: 3500 - kept, skipped: kept });
  assert.equal(other, "caption");
  assert.equal(gallery.size, 3500);
});

test("a gallery that is closed while it is being searched answers first", async () => {
  await filled("g", 100);
  const { blip, restored } = await instance();
  const gallery = await blip.gallery("g");
  const store = new GalleryStore("g", "print", 4);
  await store.add(entries(4600).slice(100));
  const call = gallery.search("words", { topK: 5000 });
  while (restored() === 100) await settle(1);
  await gallery.close();
  assert.equal((await call).length, 4600);
  await assert.rejects(gallery.search("words"), { code: "disposed" });
});

test("work that is done again on another engine counts once", async () => {
  const engine = new GalleryEngine();
  const module = galleryModule();
  const loaded = { loaded: () => JSON.stringify({ fingerprint: "print", width: 4 }) };
  const twice = async (work) => {
    await work(loaded, module);
    return work(loaded, module);
  };
  const call = async (op) => {
    const turns = engine.call(twice, op, ["g"]);
    for (;;) {
      const { done, value } = await turns.next();
      if (done) return value;
    }
  };
  assert.deepEqual(await call("open"), { size: 0 });
  await call("close");
  await assert.rejects(call("size"), { code: "disposed" });
});
