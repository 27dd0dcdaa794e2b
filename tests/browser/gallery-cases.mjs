/**
 * Galleries in IndexedDB over the module's own index, in a browser: what they find is compared with what the
 * command line tool finds among the same pictures. The cases go on from one another.
 */

import { Blip } from "/pkg/index.js";
import { startModule } from "/pkg/engine.js";
import { close, ensure, equal, instance, rejects, retire, samples } from "./checks.mjs";
import { picture } from "./task-cases.mjs";

const NAME = "pictures";
const COUNT = 8;
/**
 * How far scores may be apart: vectors are kept in eight bits, and a value that lies between two codes may become
 * the one here and the other there.
 */
const TOLERANCE = 5e-3;

/** A gallery of 100 000 pictures as large as those of the base models, and how long a search may take. */
const LARGE = { entries: 100_000, width: 256, queries: 21, limit: 150 };

const blip = () => instance("cpu", "itm", { model: "/fixtures/models/itm/" });
const items = (count = COUNT) => Array.from({ length: count }, (_, index) => ({ key: `${index}.png`, image: picture(index) }));
const open = async (name = NAME) => (await blip()).gallery(name);

/** What the page finds for a query of the tool's, best first. */
async function search(gallery, { text, image, top = 12, rerank = 0 }) {
  const found = await gallery.search(text ?? new URL(picture(image)), { topK: top, rerank });
  const scores = found.filter(({ itm }) => (itm === undefined) === (rerank === 0)).map(({ score }) => score);
  ensure(scores.every((score, index) => index === 0 || score <= scores[index - 1]), `the order is ${scores}`);
  return found.map(({ key, hash, score, cosine, itm }) => ({ key, hash, score, cosine, ...(itm === undefined ? {} : { itm }) }));
}

/** Compares what was found for each query, whatever the order of those that are nearly equal; the greatest difference. */
async function compare(gallery, queries, expected, what) {
  const sorted = (found) => [...found].sort((a, b) => (a.key < b.key ? -1 : 1));
  let greatest = 0;
  for (const [index, query] of queries.entries()) {
    const found = await search(gallery, query);
    greatest = Math.max(greatest, close(sorted(found), sorted(expected[index]), TOLERANCE, `${what}, ${JSON.stringify(query)}`));
  }
  return greatest;
}

const native = async () => (await fetch("/fixtures/gallery.json")).json();

function base64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

const PLAIN = {
  async "a gallery finds what the command line tool finds: by words, by a picture, and with a second look"() {
    await Blip.galleries.delete(NAME);
    const gallery = await open();
    const steps = [];
    const result = await gallery.add(items(), { onProgress: (step) => steps.push(step) });
    equal(result, { added: COUNT, skipped: 0, failed: [] });
    equal(steps.at(-1), { done: COUNT, total: COUNT, added: COUNT, skipped: 0, failed: 0 }, "the last step");
    const { queries, found } = await native();
    const greatest = await compare(gallery, queries, found, "native");
    console.info(`gallery: ${queries.length} searches, at most ${greatest.toExponential(1)} from native`);
    const [best] = await gallery.search(new URL(picture(3)), { topK: 1 });
    equal([best.key, (await best.blob()).size], ["3.png", (await (await fetch(picture(3))).blob()).size], "the best, and its file");
    await gallery.close();
  },
  async "after a reload the gallery is there, and only what is new is added"() {
    const gallery = await open();
    equal(gallery.size, COUNT, "the pictures that are there");
    const { queries, found } = await native();
    await compare(gallery, queries, found, "after a reload");
    const [sample] = await samples();
    equal(await gallery.add([...items(), { key: "new", image: sample }]), { added: 1, skipped: COUNT, failed: [] });
    equal(await gallery.delete("new"), 1, "the pictures that were removed");
    equal(gallery.size, COUNT, "the pictures that are left");
    await gallery.close();
  },
  async "an add that is aborted keeps what it stored, and goes on from there"() {
    await Blip.galleries.delete("aborted");
    const gallery = await open("aborted");
    const controller = new AbortController();
    const onProgress = ({ added }) => added >= 4 && controller.abort();
    const error = await gallery.add(items(), { batch: 2, signal: controller.signal, onProgress }).then(() => null, (error) => error);
    equal(error?.name, "AbortError", "what it ended with");
    const { added, skipped } = await gallery.add(items());
    ensure(skipped >= 4 && skipped < COUNT && added === COUNT - skipped, `${skipped} were kept, ${added} added`);
    await gallery.close();
    await Blip.galleries.delete("aborted");
    ensure(!(await Blip.galleries.list()).includes("aborted"), "it is still listed");
  },
  async "an exported gallery is read by the command line tool, and imported by another"() {
    const gallery = await open();
    const file = await gallery.export();
    const { entries, queries, found } = await window.nativeGallery(base64(new Uint8Array(await file.arrayBuffer())));
    equal(entries.map(({ key }) => key).sort(), items().map(({ key }) => key), "the pictures in the file");
    await compare(gallery, queries, found, "the tool, in the page's vectors");
    await Blip.galleries.delete("copy");
    const copy = await open("copy");
    equal(await copy.import(file), { added: COUNT, skipped: 0 });
    equal(await search(copy, queries[0]), await search(gallery, queries[0]), "what the copy finds");
    const { hash } = entries.find(({ key }) => key === "1.png");
    equal(await copy.delete(["0.png", hash, "none"]), 2, "the pictures that were removed");
    const left = (await copy.search("a red dog")).map(({ key }) => key).sort();
    equal(left, items().slice(2).map(({ key }) => key), "the pictures that are left");
    equal(await copy.import(file), { added: 2, skipped: COUNT - 2 }, "the second import");
    const damaged = new Uint8Array(await file.arrayBuffer());
    damaged[damaged.length >> 1] ^= 1;
    await rejects(() => copy.import(damaged), "integrity");
    await rejects(() => copy.import(new Uint8Array(100)), "bad-option");
    await copy.close();
    await gallery.close();
    await Blip.galleries.delete("copy");
    await Blip.galleries.delete(NAME);
    await retire("cpu", "itm");
  },
  async "a hundred thousand vectors are searched in the module in less than 150 ms"() {
    const { entries, width, queries, limit } = LARGE;
    const module = await startModule({}, new AbortController().signal);
    const index = new module.GalleryIndex(width, "model");
    let state = 1;
    const vector = () => Float32Array.from({ length: width }, () => (state = (state * 48271) % 0x7fffffff) / 0x3fffffff - 1);
    const hash = (number) => number.toString(16).padStart(64, "0");
    let wanted;
    for (let number = 0; number < entries; number++) {
      const embedding = vector();
      if (number === entries >> 1) wanted = embedding;
      index.add(hash(number), String(number), embedding);
    }
    equal(index.size(), entries, "the vectors");
    const [best] = JSON.parse(index.search(wanted, 10));
    ensure(best.key === String(entries >> 1) && best.score > 0.999, `the best is ${JSON.stringify(best)}`);
    const times = [];
    for (let round = 0; round < queries; round++) {
      const query = vector();
      const begun = performance.now();
      const hits = JSON.parse(index.search(query, 10));
      times.push(performance.now() - begun);
      equal(hits.length, 10, "what was found");
    }
    index.free();
    const median = times.sort((a, b) => a - b)[queries >> 1];
    console.info(`gallery: ${entries} vectors of ${width}: a search takes ${median.toFixed(1)} ms (median of ${queries})`);
    ensure(median < limit, `a search takes ${median} ms`);
  },
};

export const CASES = { plain: PLAIN };
