import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { EncodedImage } from "../dist/index.js";
import { serveModel } from "./fake-engine.mjs";
import { create, image, outcome, settle } from "./instance.mjs";

let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

test("a question is answered in words or by a closed list", async () => {
  const { blip } = await create();
  const tokens = [];
  const { text, answers } = await blip.ask(image(), "what is it?", { numBeams: 3, onToken: (text) => tokens.push(text) });
  assert.equal(text, "a red apple");
  assert.equal(answers[0].logProb, -1);
  assert.equal(tokens.at(-1), "a red apple");
  const ranked = await blip.ask(image(), "is it?", { answers: ["yes", "no"], candidates: 2 });
  assert.deepEqual(ranked.answers.map(({ text, probability }) => [text, probability]), [["yes", 0.5], ["no", 0.5]]);
});

test("one text or several, of one image or several: lists come for lists", async () => {
  const { blip } = await create();
  assert.equal((await blip.match(image(), "a cat")).text, "a cat");
  assert.deepEqual((await blip.match(image(), ["a cat", "a dog"])).map(({ text }) => text), ["a cat", "a dog"]);
  assert.deepEqual((await blip.match([image(3), image(4)], "a cat")).map(({ picture }) => picture), ["bytes:3", "bytes:4"]);
  const both = await blip.match([image(3), image(4)], ["a cat", "a dog"], { heads: ["itc"], convention: "orig" });
  assert.deepEqual(both.map((list) => list.map(({ text, picture }) => `${text} ${picture}`)), [
    ["a cat bytes:3", "a dog bytes:3"],
    ["a cat bytes:4", "a dog bytes:4"],
  ]);
});

test("images are classified together", async () => {
  const { blip, log } = await create();
  const labels = await blip.classify([image(3), image(4)], ["cat", "dog"]);
  assert.deepEqual(labels.map((list) => list.map(({ label, picture }) => `${label} ${picture}`)), [
    ["cat bytes:3", "dog bytes:3"],
    ["cat bytes:4", "dog bytes:4"],
  ]);
  assert.ok(log.includes("run classify bytes:3 + bytes:4"), log.join("\n"));
  assert.equal((await blip.classify(image(), ["cat"]))[0].label, "cat");
});

test("embeddings are of images, of texts, or of both", async () => {
  const { blip } = await create();
  const numbers = (list) => list.map(({ data, shape }) => [data[0], ...shape]);
  assert.deepEqual(numbers([await blip.embed({ image: image() })]), [[7, 1]]);
  assert.deepEqual(numbers(await blip.embed({ image: [image(), image(10)] })), [[7, 1], [8, 1]]);
  assert.deepEqual(numbers([await blip.embed({ text: "abc" })]), [[3, 1]]);
  assert.deepEqual(numbers(await blip.embed({ text: ["abc", "a"] }, { output: "class" })), [[3, 1], [1, 1]]);
  assert.deepEqual(numbers([await blip.embed({ image: image(), text: "abc" })]), [[7, 1]]);
  const pairs = await blip.embed({ image: [image(), image(10)], text: ["a", "b"] });
  assert.deepEqual(pairs.map(numbers), [[[7, 1], [7, 1]], [[8, 1], [8, 1]]]);
  await assert.rejects(blip.embed({}), { code: "bad-option" });
});

test("many texts are embedded some at a time, in their order", async () => {
  const { blip, log } = await create();
  const texts = Array.from({ length: 150 }, (_, index) => "x".repeat(index));
  const steps = [];
  const embeddings = await blip.embed({ text: texts }, { onProgress: ({ done, total }) => steps.push([done, total]) });
  assert.deepEqual(embeddings.map(({ data }) => data[0]), texts.map(({ length }) => length));
  assert.equal(log.filter((line) => line.startsWith("run embed")).length, 3);
  assert.deepEqual(steps, [[64, 150], [128, 150], [150, 150]]);
});

test("an explanation has a map for each token, each word, and the text", async () => {
  const { blip } = await create();
  const [first, second] = await blip.explain([image(), image()], "cat", { layer: 1 });
  assert.deepEqual(first, second);
  assert.deepEqual([...first.tokens[1].map], [3, 4]);
  assert.deepEqual([...first.words[0].map], [5, 6]);
  assert.deepEqual([...first.sentence], [7, 8]);
  assert.deepEqual(first.grid, [1, 2]);
  assert.equal(first.tokens[0].word, null);
});

test("a statement is about two images, in their order", async () => {
  const { blip } = await create();
  const { answer, pictures } = await blip.nlvr2([image(4), image(3)], "both are red");
  assert.equal(answer, true);
  assert.deepEqual(pictures, ["bytes:4", "bytes:3"]);
  await assert.rejects(blip.nlvr2([image()], "x"), { code: "bad-option" });
});

test("a dialogue's candidates are ranked", async () => {
  const { blip } = await create();
  const dialogue = { caption: "a cat", history: [{ question: "is it red?", answer: "no" }], question: "is it black?", candidates: ["yes", "no"] };
  assert.deepEqual((await blip.dialogue(image(), dialogue)).map(({ text }) => text), ["yes", "no"]);
  await assert.rejects(blip.dialogue(image(), { ...dialogue, candidates: "yes" }), { code: "bad-option", message: /candidates/ });
});

test("an encoded image is encoded once, and may be asked about in any place of an image", async () => {
  const { blip, log } = await create();
  const encoded = await blip.encode(image(9));
  assert.ok(encoded instanceof EncodedImage);
  await blip.caption(encoded);
  await blip.ask(encoded, "what?");
  const mixed = await blip.caption([image(4), encoded, image(5)]);
  assert.deepEqual(mixed.map(({ picture }) => picture), ["bytes:4", "bytes:9", "bytes:5"]);
  assert.equal(log.filter((line) => /^encode.*bytes:9/.test(line)).length, 1);
});

test("what images will be asked for reaches the engine", async () => {
  const { blip, log } = await create();
  await blip.encode(image(9), { tasks: ["vqa", "itm"], alpha: "discard" });
  await blip.encodeVideo([image(4)], { tasks: ["vqa"], frames: 1 });
  assert.deepEqual(log.filter((line) => line.startsWith("encode")), [
    'encode bytes:9 {"alpha":"discard","tasks":["vqa","itm"],"video":false}',
    'encode bytes:4 {"tasks":["vqa"],"video":true}',
  ]);
  await assert.rejects(blip.encode(image(), { tasks: "vqa", task: "vqa" }), { code: "bad-option" });
});

test("an encoded image is freed by dispose, after calls that were made with it", async () => {
  const { blip, engines } = await create();
  const encoded = await blip.encode(image(9));
  const pending = blip.caption(encoded);
  encoded.dispose();
  encoded[Symbol.dispose ?? "dispose"]();
  assert.equal((await pending).text, "a red apple");
  await settle();
  assert.equal(engines[0].pictures.size, 0);
  await assert.rejects(blip.caption(encoded), { code: "bad-option", message: /disposed/ });
  assert.equal((await blip.memory()).pictures, 0);
});

test("an encoded image of another instance is refused", async () => {
  const [{ blip }, { blip: other }] = [await create(), await create()];
  const encoded = await other.encode(image());
  await assert.rejects(blip.caption(encoded), { code: "bad-option", message: /another instance/ });
  await assert.rejects(blip.encode(encoded), { code: "bad-option" });
});

test("images of a call leave nothing behind, however it ends", async () => {
  const { blip, engines } = await create();
  await blip.caption([image(3), image(4), image(5)]);
  await outcome(blip.caption([image(3), Uint8Array.of(255), image(5)]));
  const controller = new AbortController();
  await outcome(blip.caption([image(3), image(4)], { signal: controller.signal, onToken: () => controller.abort() }));
  await settle();
  assert.equal(engines[0].pictures.size, 0);
});

test("a bad image of a list is named, and nothing else of it is blamed", async () => {
  const { blip } = await create();
  const list = Array.from({ length: 12 }, (_, index) => (index === 10 ? Uint8Array.of(255) : image(index + 3)));
  await assert.rejects(blip.caption(list), { code: "bad-image", image: 10, message: /^image 10 of the list: no known format/ });
  await assert.rejects(blip.classify(list.slice(8), ["a"]), { code: "bad-image", image: 2 });
  await assert.rejects(blip.encode(list.slice(8)), { code: "bad-image", image: 2 });
  await assert.rejects(blip.caption([image(), 7]), { code: "bad-image", image: 1 });
  await assert.rejects(blip.caption(Uint8Array.of(255)), (error) => error.message === "no known format" && error.image === undefined);
});

test("lists of no images are answered with lists of nothing", async () => {
  const { blip } = await create();
  assert.deepEqual(await blip.caption([]), []);
  assert.deepEqual(await blip.classify([], ["a"]), []);
  assert.deepEqual(await blip.encode([]), []);
});

test("options are those of the task; those of pictures reach the decoder", async () => {
  const { blip, log } = await create();
  await assert.rejects(blip.match(image(), "a", { numBeams: 3 }), { code: "bad-option" });
  await assert.rejects(blip.ask(image(), 3), { code: "bad-option" });
  await assert.rejects(blip.classify(image(), "cat"), { code: "bad-option" });
  const { request } = await blip.caption(image(), { alpha: "discard", numBeams: 3 });
  assert.deepEqual(request, { numBeams: 3 });
  assert.ok(log.includes('encode bytes:3 {"alpha":"discard","video":false}'), log.join("\n"));
});

test("several images are encoded together, no more than eight, and progress counts them", async () => {
  const { blip, log } = await create();
  const list = Array.from({ length: 20 }, (_, index) => image(index + 3));
  const steps = [];
  const captions = await blip.caption(list, { onProgress: ({ done, total }) => steps.push([done, total]) });
  assert.deepEqual(captions.map(({ picture }) => picture), list.map(({ length }) => `bytes:${length}`));
  const batches = log.filter((line) => line.startsWith("encode")).map((line) => line.match(/bytes/g).length);
  assert.ok(Math.max(...batches) === 8 && batches.length < 6, `batches of ${batches}`);
  assert.deepEqual(steps.at(-1), [20, 20]);
  assert.ok(steps.every(([done, total], index) => total === 20 && done >= (steps[index - 1]?.[0] ?? 0)), JSON.stringify(steps));
});

test("listeners hear which image of a list a token is about", async () => {
  const { blip } = await create();
  const list = Array.from({ length: 10 }, () => image());
  const heard = new Set();
  await blip.caption(list, { onToken: (_text, _index, image) => heard.add(image) });
  assert.deepEqual([...heard], [...list.keys()]);
});
