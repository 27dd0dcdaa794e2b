import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { pipeline } from "../dist/compat.js";
import { Blip, BlipError } from "../dist/index.js";
import { checkedOptions } from "../dist/options.js";

/** What was asked of `Blip.create` and of the instance it gave. */
let created;
let calls;
const { create } = Blip;

const caption = { text: "a red apple", captions: [{ text: "a red apple", logProb: -1, tokens: [1] }, { text: "an apple", logProb: -2, tokens: [2] }] };
const written = { text: "red", answers: [{ text: "red", logProb: Math.log(0.25) }] };
const ranked = { text: "red", answers: [{ text: "red", logProb: -1, score: -2, probability: 0.75 }, { text: "blue", logProb: -2, score: -3, probability: 0.25 }] };
const labels = [{ label: "cat", probability: 0.9, score: 0.4 }, { label: "dog", probability: 0.1, score: 0.2 }];

beforeEach(() => {
  calls = [];
  Blip.create = async (options) => {
    created = options;
    const all = (images, result) => images.map(() => result);
    return {
      caption: async (images, options) => (calls.push(["caption", images, options]), all(images, caption)),
      ask: async (images, question, options) => (calls.push(["ask", images, question, options]), all(images, options.answers ? ranked : written)),
      classify: async (images, names, options) => (calls.push(["classify", images, names, options]), all(images, labels)),
      dispose: async () => void calls.push(["dispose"]),
    };
  };
});
afterEach(() => {
  Blip.create = create;
});

test("image-to-text has the result of transformers.js, for one image and for several", async () => {
  const captioner = await pipeline("image-to-text");
  const texts = [{ generated_text: "a red apple" }, { generated_text: "an apple" }];
  assert.deepEqual(await captioner("a.png"), texts);
  assert.deepEqual(await captioner(["a.png", "b.png"]), [texts, texts]);
  assert.deepEqual(calls.map(([name, images]) => [name, images]), [["caption", ["a.png"]], ["caption", ["a.png", "b.png"]]]);
});

test("the options of a generation have our names and values", async () => {
  const captioner = await pipeline("image-to-text");
  const { signal } = new AbortController();
  await captioner("a.png", { num_return_sequences: 2, do_sample: true, top_k: 5, top_p: 0.9, temperature: 2, max_length: 9, min_length: 2, repetition_penalty: 1.1, prompt: "a photo of", seed: 4, signal });
  assert.deepEqual(calls[0][2], { numCaptions: 2, sample: true, topK: 5, topP: 0.9, temperature: 2, maxLength: 9, minLength: 2, repetitionPenalty: 1.1, prompt: "a photo of", seed: 4, signal });
  await captioner("a.png", { num_beams: 3, length_penalty: 2 });
  assert.deepEqual(calls[1][2], { numBeams: 3, lengthPenalty: 2 });
});

test("what transformers.js leaves aside is left aside here, where our own calls would refuse it", async () => {
  const captioner = await pipeline("image-to-text");
  await captioner("a.png", { do_sample: false, top_k: 5, top_p: 0.9, temperature: 0, length_penalty: 2 });
  assert.deepEqual(calls[0][2], { sample: false });
  await captioner("a.png", { do_sample: true, num_beams: 1, length_penalty: 2 });
  assert.deepEqual(calls[1][2], { sample: true, numBeams: 1 });
  const answerer = await pipeline("visual-question-answering");
  await answerer("a.png", "what?", { length_penalty: 2 });
  assert.deepEqual(calls[2][3], { lengthPenalty: 2 }, "answers are searched with beams");
  for (const [task, options] of [["caption", calls[0][2]], ["caption", calls[1][2]], ["ask", calls[2][3]]]) {
    checkedOptions(task, options);
  }
});

test("new tokens are counted without the first of the sequence", async () => {
  const captioner = await pipeline("image-to-text");
  await captioner("a.png", { max_new_tokens: 20 });
  assert.deepEqual(calls[0][2], { maxLength: 21 });
  for (const also of [{ max_length: 30 }, { prompt: "a" }]) {
    await assert.rejects(captioner("a.png", { max_new_tokens: 20, ...also }), { code: "bad-option" });
  }
});

test("visual question answering writes an answer with the probability of its tokens", async () => {
  const answerer = await pipeline("visual-question-answering");
  const [{ answer, score }] = await answerer("a.png", "what colour?", { num_beams: 3 });
  assert.equal(answer, "red");
  assert.ok(Math.abs(score - 0.25) < 1e-12);
  assert.deepEqual(calls[0].slice(1), [["a.png"], "what colour?", { numBeams: 3 }]);
  assert.equal((await answerer(["a.png", "b.png"], "what colour?")).length, 2);
});

test("visual question answering ranks candidates", async () => {
  const answerer = await pipeline("visual-question-answering");
  const found = await answerer("a.png", "what colour?", { candidate_answers: ["red", "blue"], top_k: 2 });
  assert.deepEqual(found, [{ answer: "red", score: 0.75 }, { answer: "blue", score: 0.25 }]);
  assert.deepEqual(calls[0][3], { answers: ["red", "blue"] });
  assert.deepEqual(await answerer("a.png", "what colour?", { candidate_answers: ["red", "blue"] }), [{ answer: "red", score: 0.75 }]);
  await assert.rejects(answerer("a.png", "what?", { candidate_answers: ["red"], top_k: 0 }), { code: "bad-option", message: /top_k is 0/ });
  await assert.rejects(answerer("a.png", "what colour?", { top_k: 2 }), { code: "bad-option", message: /candidate_answers/ });
  await assert.rejects(answerer("a.png", "what colour?", { prompt: "a" }), { code: "bad-option", message: /`prompt`/ });
});

test("zero-shot classification has labels and scores, and the template of transformers.js", async () => {
  const classifier = await pipeline("zero-shot-image-classification");
  assert.deepEqual(await classifier("a.png", ["dog", "cat"]), [{ label: "cat", score: 0.9 }, { label: "dog", score: 0.1 }]);
  assert.deepEqual(calls[0].slice(1), [["a.png"], ["dog", "cat"], { templates: ["This is a photo of {}"] }]);
  await classifier(["a.png"], ["dog"], { hypothesis_template: "{} in the snow" });
  assert.deepEqual(calls[1][3], { templates: ["{} in the snow"] });
});

test("a task that BLIP has not is an error that names those it has", async () => {
  for (const task of ["translation", "toString", undefined]) {
    await assert.rejects(pipeline(task), (error) => {
      assert.ok(error instanceof BlipError);
      assert.equal(error.code, "task-unsupported");
      assert.match(error.message, /image-to-text, visual-question-answering, zero-shot-image-classification/);
      return true;
    });
  }
});

test("options that are not understood are refused, not ignored", async () => {
  const captioner = await pipeline("image-to-text");
  await assert.rejects(captioner("a.png", { num_beam_groups: 2 }), { code: "bad-option", message: /num_beam_groups/ });
  const classifier = await pipeline("zero-shot-image-classification");
  await assert.rejects(classifier("a.png", ["a"], { multi_label: true }), { code: "bad-option", message: /multi_label/ });
  await assert.rejects(pipeline("image-to-text", null, { device: "webnn" }), { code: "bad-option", message: /webnn/ });
  await assert.rejects(pipeline("image-to-text", null, { local_files_only: true }), { code: "bad-option", message: /local_files_only/ });
  await assert.rejects(pipeline("image-to-text", null, { dtype: "q1" }), { code: "bad-option", message: /q1/ });
});

test("model, revision, device and dtype reach the creation", async () => {
  await pipeline("image-to-text");
  assert.deepEqual(created, { device: "auto", model: "Salesforce/blip-image-captioning-base", tasks: ["caption"] });
  await pipeline("visual-question-answering", null, { device: "wasm", dtype: "fp16" });
  assert.deepEqual(created, { device: "cpu", dtype: "f16", model: "Salesforce/blip-vqa-base", tasks: ["vqa"] });
  await pipeline("zero-shot-image-classification", "me/mine", { revision: "v2", device: "gpu", dtype: { vision: "q8", text: "int8" }, cache: "none" });
  assert.deepEqual(created, { device: "webgpu", dtype: { vision: "q8", text: "q8" }, cache: "none", model: "me/mine@v2", tasks: ["itc"] });
});

test("progress is told in the words of transformers.js", async () => {
  const seen = [];
  const ours = [];
  await pipeline("image-to-text", "tiny", { progress_callback: (event) => seen.push(event), onProgress: ({ phase }) => ours.push(phase) });
  for (const progress of [
    { phase: "download", file: "vocab.txt", loaded: 10, total: 40 },
    { phase: "download", file: "model.safetensors", loaded: 20, total: 40 },
    { phase: "download", file: "model.safetensors", loaded: 40, total: 40 },
    { phase: "load" },
    { phase: "ready" },
  ]) created.onProgress(progress);
  const name = "tiny";
  assert.deepEqual(seen, [
    { status: "initiate", name, file: "vocab.txt" },
    { status: "download", name, file: "vocab.txt" },
    { status: "progress", name, file: "vocab.txt", loaded: 10, total: 40, progress: 25 },
    { status: "done", name, file: "vocab.txt" },
    { status: "initiate", name, file: "model.safetensors" },
    { status: "download", name, file: "model.safetensors" },
    { status: "progress", name, file: "model.safetensors", loaded: 20, total: 40, progress: 50 },
    { status: "progress", name, file: "model.safetensors", loaded: 40, total: 40, progress: 100 },
    { status: "done", name, file: "model.safetensors" },
    { status: "ready", name, task: "image-to-text" },
  ]);
  assert.deepEqual(ours, ["download", "download", "download", "load", "ready"]);
});

test("disposing of a pipeline disposes of its instance", async () => {
  const captioner = await pipeline("image-to-text");
  assert.equal(captioner.task, "image-to-text");
  assert.ok(captioner.blip);
  await captioner.dispose();
  await captioner[Symbol.asyncDispose]?.();
  assert.deepEqual(calls.map(([name]) => name), Symbol.asyncDispose === undefined ? ["dispose"] : ["dispose", "dispose"]);
});
