/** Many calls at once, with random aborts: every answer is right, and nothing is left behind. */

import { close, ensure, equal } from "./checks.mjs";
import { networks, picture } from "./task-cases.mjs";

const CALLERS = 8;
const PICTURES = 8;
/** In 600 calls the pool of GPU memory comes to rest after about 300, within 0.3 %. */
const SLACK = 0.06;
/** Bytes of a few of the smallest buffers, 256 each. */
const FEW = 4 * 256;

/** Equal seeds give equal tests. */
function randomNumbers(seed) {
  let state = seed;
  return () => (state = (state * 48271) % 0x7fffffff) / 0x7fffffff;
}

/** Calls by name: what they ask of one image. */
const CALLS = {
  caption: (blip, image, options) => blip.caption(image, options),
  beams: (blip, image, options) => blip.caption(image, { numBeams: 3, maxLength: 12, ...options }),
  ask: (blip, image, options) => blip.ask(image, "what colour is the dog?", { maxLength: 8, ...options }),
  rank: (blip, image, options) => blip.ask(image, "is it red?", { answers: ["yes", "no", "red dog", "two"], ...options }),
  match: (blip, image, options) => blip.match(image, ["a red dog", "two cats near the house"], options),
  classify: (blip, image, options) => blip.classify(image, ["dog", "cat", "red ball"], options),
  embed: (blip, image, options) => blip.embed({ image }, options),
  both: (blip, image, options) => blip.embed({ image, text: "a red dog" }, options),
  explain: (blip, image, options) => blip.explain(image, "a red dog", options),
  dialogue: (blip, image, options) => blip.dialogue(image, { caption: "a dog", question: "is it red?", candidates: ["yes", "no"] }, options),
  nlvr2: (blip, image, options) => blip.nlvr2([image, picture(0)], "a dog in both", options),
  encode: (blip, image, options) => embedded(blip, blip.encode(image, options), options),
  video: (blip, image, options) => embedded(blip, blip.encodeVideo([image, picture(0)], { frames: 2, ...options }), options),
};
/** Calls that take one image, and those of them for which it must not be encoded already. */
const SINGLE = ["nlvr2", "encode", "video"];
const FRESH = ["encode", "video"];

/** Features of what is being encoded, which is given back however the call ends. */
async function embedded(blip, encoding, options) {
  const encoded = await encoding;
  try {
    return await blip.embed({ image: encoded }, options);
  } finally {
    encoded.dispose();
  }
}

/** An answer without times, and with plain numbers. */
function plain(answer) {
  if (Array.isArray(answer)) return answer.map(plain);
  if (answer instanceof Float32Array) return [...answer];
  if (answer === null || typeof answer !== "object") return answer;
  return Object.fromEntries(Object.entries(answer).flatMap(([name, value]) => (name === "ms" ? [] : [[name, plain(value)]])));
}

/**
 * `total` calls of eight callers, of which some are aborted at a random moment, against answers that were
 * computed one at a time before.
 */
async function stress(device, total, names, tolerance) {
  const blip = await networks(device);
  const unhandled = [];
  const note = (event) => unhandled.push(String(event.reason ?? event.message));
  addEventListener("unhandledrejection", note);
  const alone = new Map();
  const durations = [];
  for (const name of names) {
    for (let index = 0; index < PICTURES; index++) {
      const begun = performance.now();
      alone.set(`${name} ${index}`, plain(await CALLS[name](blip, picture(index), {})));
      durations.push(performance.now() - begun);
    }
  }
  const before = await blip.memory();
  // The first ones compiled what the others use.
  const usual = durations.sort((a, b) => a - b)[durations.length >> 1];
  const random = randomNumbers(7);
  const memory = [];
  const counts = { answered: 0, aborted: 0 };
  let made = 0;
  const caller = async () => {
    const mine = Math.floor(random() * PICTURES);
    const encoded = await blip.encode(picture(mine));
    while (made < total) {
      made++;
      if (made % Math.floor(total / 10) === 0) memory.push(await blip.memory());
      const name = names[Math.floor(random() * names.length)];
      const [one, other] = [0, 0].map(() => Math.floor(random() * PICTURES));
      const [images, indices] = [
        [picture(one), [one]],
        [encoded, [mine]],
        [[picture(one), encoded, picture(other)], [one, mine, other]],
      ][Math.floor(random() * (FRESH.includes(name) ? 1 : SINGLE.includes(name) ? 2 : 3))];
      const controller = new AbortController();
      if (random() < 0.3) setTimeout(() => controller.abort(), random() * usual * CALLERS);
      try {
        const answer = await CALLS[name](blip, images, { signal: controller.signal });
        const list = Array.isArray(images) ? answer : [answer];
        equal(list.length, indices.length, `the number of answers of ${name}`);
        indices.forEach((index, at) => close(plain(list[at]), alone.get(`${name} ${index}`), tolerance, `${name} of picture ${index}`));
        counts.answered++;
      } catch (error) {
        ensure(error === controller.signal.reason && controller.signal.aborted, `${name}: ${error.stack ?? error}`);
        counts.aborted++;
      }
    }
    encoded.dispose();
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  // The last aborted ones leave the engine; what they had finished all the same is given back meanwhile.
  await blip.memory();
  const after = await blip.memory();
  removeEventListener("unhandledrejection", note);
  equal(unhandled, [], "what nobody caught");
  ensure(counts.aborted >= total / 20 && counts.answered >= total / 2, JSON.stringify(counts));
  equal(after.pictures, 0, "the pictures that are left");
  // Once nothing runs, nothing is held that was not before. A buffer of the smallest size is taken and given back
  // now and then at no call's bidding; what one call in ten kept would be more than a few of those.
  ensure(after.gpuBytes <= before.gpuBytes + FEW, `the GPU memory in use is ${after.gpuBytes}, it was ${before.gpuBytes}`);
  const half = memory.slice(memory.length / 2);
  const growth = (name) => Math.max(...half.map((use) => use[name])) - half[0][name];
  equal(growth("wasmBytes"), 0, "the growth of the module's memory in the second half");
  // Pages of the pool: which of them are taken depends on what meets, until all sizes have met.
  ensure(growth("gpuReserved") <= SLACK * after.gpuReserved, `GPU memory grew by ${growth("gpuReserved")} of ${after.gpuReserved} in the second half`);
  console.info(`${device}: ${JSON.stringify(counts)}, ${JSON.stringify(after)}`);
}

export const CASES = {
  plain: {
    "200 calls of eight callers with aborts are right and leave nothing behind, on the CPU": () => stress("cpu", 200, Object.keys(CALLS), 1e-5),
  },
  webgpu: {
    "200 calls of eight callers with aborts are right and leave nothing behind, on WebGPU": () =>
      stress("webgpu", 200, ["caption", "beams", "ask", "rank", "match", "embed", "explain", "nlvr2", "encode"], 1e-4),
  },
};
