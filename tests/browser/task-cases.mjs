/**
 * Every task on small networks with reference answers, by models of four sources in one instance: compared
 * with the reference (transformers, and the original's algorithms on top of it) and with what the command
 * line tool answers natively.
 */

import { overlay, overlayPixels } from "/pkg/index.js";
import { close, ensure, equal, instance, rejects, retire } from "./checks.mjs";

const TASKS = ["caption", "vqa", "itm", "itc", "nlvr2"];
const FOLDERS = { caption: "caption", vqa: "vqa", itm: "itm", itc: "itm", nlvr2: "nlvr2" };

/**
 * How far numbers may be from the reference's and from the native ones. Weights are in f32 everywhere; the
 * order of sums is another on each device, and logits are sums of products of numbers up to 10.
 */
const TOLERANCES = { cpu: { reference: 1e-4, native: 5e-5 }, webgpu: { reference: 1e-3, native: 1e-3 } };

/** The instance of all networks. */
export const networks = (device) => {
  const model = Object.fromEntries(TASKS.map((task) => [task, new URL(`/fixtures/models/${FOLDERS[task]}/`, location.href).href]));
  return instance(device, "networks", { model });
};

let fetched;
const allCases = () => (fetched ??= fetch("/fixtures/cases.json").then((response) => response.json()));

/** The address of a picture that the networks take as it is. */
export const picture = (index) => new URL(`/fixtures/pictures/${index}.png`, location.href).href;

/** One image for each list of frames. */
async function imagesOf(blip, lists) {
  return Promise.all(lists.map((frames) => (frames.length === 1 ? picture(frames[0]) : blip.encodeVideo(frames.map(picture), { frames: frames.length }))));
}

/** The request through the SDK's methods: results and arrays, as the engine would answer them. */
async function ask(blip, { task, ...options }, lists) {
  const images = await imagesOf(blip, lists);
  const done = (results, floats = []) => {
    for (const image of images) image.dispose?.();
    return { results, floats };
  };
  const call = {
    caption: () => blip.caption(images, options),
    ask: ({ question, ...rest }) => blip.ask(images, question, rest),
    match: ({ texts, ...rest }) => blip.match(images, texts, rest),
    classify: ({ labels, ...rest }) => blip.classify(images, labels, rest),
    nlvr2: async ({ statement, ...rest }) => [await blip.nlvr2(images, statement, rest)],
    dialogue: ({ caption, history, question, candidates, ...rest }) => blip.dialogue(images, { caption, history, question, candidates }, rest),
    explain: ({ text, ...rest }) => blip.explain(images, text, rest),
    embed: ({ kind, texts, ...rest }) =>
      blip.embed({ ...(kind === "text" ? {} : { image: images }), ...(kind === "image" ? {} : { text: texts }) }, rest),
  };
  const results = await call[task](options);
  if (task === "embed") {
    const rows = results.flat();
    return done(rows.map(({ shape }) => ({ shape })), rows.map(({ data }) => data));
  }
  if (task !== "explain") return done(results);
  const joined = (maps) => maps.flatMap(({ map }) => [...map]);
  return done(results, results.flatMap(({ tokens, words, sentence }) => [joined(tokens), joined(words), sentence]));
}

/** What the tool prints, with its arrays apart. */
function nativeAnswer({ task }, native) {
  // Of several texts it prints a list.
  const rows = native.flat();
  if (task === "embed") return { results: rows.map(({ shape }) => ({ shape })), floats: rows.map(({ values }) => values) };
  if (task !== "explain") return { results: native, floats: [] };
  const joined = (maps) => maps.flatMap(({ map }) => map);
  return {
    results: native.map(({ layer, grid, probability }) => ({ layer, grid, probability })),
    floats: native.flatMap(({ tokens, words, sentence }) => [joined(tokens), joined(words), sentence]),
  };
}

/** Times are not compared. */
function timeless(results) {
  return results.map((result) => {
    if (result?.ms === undefined) return result;
    const { ms: _, ...rest } = result;
    return rest;
  });
}

/** Compares every case of a task; the greatest differences go to the console. */
async function compare(device, task, select = () => true) {
  const blip = await networks(device);
  const cases = (await allCases()).filter((item) => item.request.task === task && select(item));
  ensure(cases.length > 0, `there is no case of ${task}`);
  const greatest = { reference: 0, native: 0 };
  for (const { name, pictures, request, reference, native } of cases) {
    const answer = await ask(blip, request, pictures);
    for (const [kind, expected] of [["reference", reference], ["native", nativeAnswer(request, native)]]) {
      const tolerance = TOLERANCES[device][kind];
      const differences = [
        close(answer.results, timeless(expected.results), tolerance, `${name}, ${kind}: results`),
        close(answer.floats, expected.floats, tolerance, `${name}, ${kind}: floats`),
      ];
      greatest[kind] = Math.max(greatest[kind], ...differences);
    }
  }
  console.info(`${device}: ${cases.length} cases of ${task}: at most ${greatest.reference.toExponential(1)} from the reference, ${greatest.native.toExponential(1)} from native`);
}

const METHODS = ["caption", "ask", "match", "classify", "embed", "explain", "dialogue", "nlvr2"];

/** One picture, one video, and nothing that only repeats another's kernels: a software GPU is slow. */
const FEW = {
  caption: ["caption.greedy", "caption.beams_orig", "caption.video_greedy"],
  ask: ["ask.orig", "rank.some"],
  match: ["match.orig", "match.video"],
  classify: ["classify.two_templates"],
  embed: ["embed.image_projection", "embed.text_projection", "embed.multimodal_0_class"],
  explain: ["explain.0"],
  dialogue: ["dialogue.opening"],
  nlvr2: ["nlvr2.case.0"],
};

const onCpu = METHODS.map((task) => [`${task} answers as the reference and as natively, on the CPU`, () => compare("cpu", task)]);
const onGpu = METHODS.map((task) => [
  `${task} answers as the reference and as natively, on WebGPU`,
  () => compare("webgpu", task, ({ name }) => FEW[task].includes(name)),
]);

/** Cases by suite. */
export const CASES = {
  plain: {
    async "models of four sources are one instance, and equal image encoders are shared"() {
      const { info } = await networks("cpu");
      equal([...info.tasks].sort(), [...TASKS].sort(), "the tasks");
      equal(info.models.map(({ id }) => id), ["caption", "vqa", "itm", "nlvr2"], "the models");
    },
    ...Object.fromEntries(onCpu),
    async "an image that was encoded before gives the same answers"() {
      const blip = await networks("cpu");
      const encoded = await blip.encode([0, 1, 2].map(picture));
      const [fresh, again] = [await blip.match([0, 1, 2].map(picture), "a red dog"), await blip.match(encoded, "a red dog")];
      equal(again, fresh);
      equal((await blip.caption(encoded)).map(({ text }) => text), (await blip.caption([0, 1, 2].map(picture))).map(({ text }) => text));
      for (const image of encoded) image.dispose();
      equal((await blip.memory()).pictures, 0, "the pictures that are alive");
    },
    async "a caption's match score is that of the ITM network"() {
      const blip = await networks("cpu");
      const { text, captions } = await blip.caption(picture(1), { numBeams: 3, matchScore: true });
      const { itm } = await blip.match(picture(1), text, { heads: ["itm"] });
      close(captions[0].matchScore, itm.probability, 1e-5, "the score");
    },
    async "a video is sampled from a <video>, and the element is left as it was"() {
      const blip = await networks("cpu");
      const video = await recorded();
      video.currentTime = 0.25;
      await new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
      const encoded = await blip.encodeVideo(video, { frames: 4 });
      ensure(Math.abs(video.currentTime - 0.25) < 1e-3 && video.paused, `the element is at ${video.currentTime}`);
      ensure((await blip.caption(encoded)).text.length > 0, "no caption");
      encoded.dispose();
    },
    async "an explanation becomes a bitmap of its pixels, of the size that was asked for"() {
      const blip = await networks("cpu");
      const { words, grid } = await blip.explain(picture(0), "a red dog");
      const options = { width: 48, height: 32 };
      const bitmap = await overlay(words[1].map, grid, options);
      equal([bitmap.width, bitmap.height], [48, 32], "the size");
      const context = new OffscreenCanvas(48, 32).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      bitmap.close();
      const drawn = context.getImageData(0, 0, 48, 32).data;
      const { data } = overlayPixels(words[1].map, grid, options);
      let covered = 0;
      for (let at = 0; at < data.length; at += 4) {
        ensure(drawn[at + 3] === data[at + 3], `the opacity at ${at} is ${drawn[at + 3]}, expected ${data[at + 3]}`);
        if (data[at + 3] < 64) continue;
        covered++;
        // A canvas multiplies colours by their opacity, and divides again.
        for (let part = at; part < at + 3; part++) ensure(Math.abs(drawn[part] - data[part]) <= 4, `${drawn[part]} was drawn for ${data[part]}`);
      }
      ensure(covered > 0, "nothing of the picture is covered");
    },
    async "a task that nothing loaded was trained for has its own code"() {
      const vqa = await instance("cpu", "vqa", { model: "/fixtures/models/vqa/" });
      await rejects(() => vqa.caption(picture(0)), "task-unsupported");
      await rejects(() => vqa.nlvr2([picture(0), picture(1)], "x"), "task-unsupported");
      ensure((await vqa.ask(picture(0), "what colour is the dog?")).answers[0].logProb < 0, "no answer");
      await retire("cpu", "vqa");
    },
  },
  webgpu: Object.fromEntries(onGpu),
};

/** A second of a moving square, as a browser records it. */
export async function recorded() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: "video/webm" });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.start();
  const begun = performance.now();
  while (performance.now() - begun < 1000) {
    context.fillStyle = "white";
    context.fillRect(0, 0, 64, 64);
    context.fillStyle = "red";
    context.fillRect((performance.now() - begun) / 20, 20, 20, 20);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await new Promise((resolve) => {
    recorder.onstop = resolve;
    recorder.stop();
  });
  const video = Object.assign(document.createElement("video"), { muted: true, src: URL.createObjectURL(new Blob(parts)) });
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(video.error);
  });
  // A recording knows its length only when its end was sought.
  if (!Number.isFinite(video.duration)) {
    video.currentTime = 1e9;
    await new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
  }
  return video;
}
