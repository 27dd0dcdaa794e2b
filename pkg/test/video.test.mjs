import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { frameIndices } from "../dist/video.js";
import { serveModel } from "./fake-engine.mjs";
import { create, image, outcome, settle } from "./instance.mjs";

let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

test("frames are those that the crate chooses", () => {
  assert.deepEqual(frameIndices(100, 8, "orig"), [0, 12, 24, 36, 48, 60, 72, 84]);
  assert.deepEqual(frameIndices(7, 8, "orig"), Array(8).fill(0));
  assert.deepEqual(frameIndices(100, 4, "even"), [12, 37, 62, 87]);
  assert.deepEqual(frameIndices(3, 8, "even"), [0, 0, 0, 1, 1, 2, 2, 2]);
  assert.deepEqual(frameIndices(0, 8, "even"), []);
});

/** Which frames the engine was given; a frame's number is its size. */
const frames = (log) => [...log.find((line) => line.startsWith("encode")).matchAll(/bytes:(\d+)/g)].map(([, size]) => Number(size));
const clip = (n) => Array.from({ length: n }, (_, index) => image(index + 1));

test("a list of frames becomes one picture, which every task takes", async () => {
  const { blip, log } = await create();
  const video = await blip.encodeVideo(clip(100), { frames: 4 });
  assert.deepEqual(frames(log), [13, 38, 63, 88]);
  assert.match(log.find((line) => line.startsWith("encode")), /"video":true/);
  assert.match((await blip.caption(video)).picture, /^video of/);
  video.dispose();
});

test("of a short clip some frames come several times", async () => {
  const { blip, log } = await create();
  await blip.encodeVideo(clip(3));
  assert.deepEqual(frames(log), [1, 1, 1, 2, 2, 3, 3, 3]);
});

test("frames that come one after the other are chosen as well, and not all of them are kept", async () => {
  const stream = async function* (n) {
    for (const frame of clip(n)) yield frame;
  };
  const { blip, log } = await create();
  await blip.encodeVideo(stream(20), { frames: 2, sampling: "orig" });
  assert.deepEqual(frames(log), [1, 11]);
  log.length = 0;
  await blip.encodeVideo(stream(1000), { frames: 4 });
  const expected = frameIndices(1000, 4, "even");
  frames(log).forEach((frame, index) => assert.ok(Math.abs(frame - 1 - expected[index]) <= 1000 / 16, `${frame} for ${expected[index]}`));
});

test("what is no clip, has no frames or asks for too many is refused", async () => {
  const { blip } = await create();
  assert.equal(await outcome(blip.encodeVideo([])), "bad-image");
  assert.equal(await outcome(blip.encodeVideo((async function* () {})())), "bad-image");
  assert.equal(await outcome(blip.encodeVideo(7)), "bad-image");
  for (const options of [{ frames: 0 }, { frames: 1.5 }, { frames: 33 }, { sampling: "odd" }, { numBeams: 3 }]) {
    assert.equal(await outcome(blip.encodeVideo(clip(9), options)), "bad-option", JSON.stringify(options));
  }
});

test("an endless stream is left when the call is aborted", async () => {
  const { blip } = await create();
  const controller = new AbortController();
  let left = false;
  const endless = (async function* () {
    try {
      for (let index = 0; ; index++) {
        if (index === 50) controller.abort();
        yield image();
      }
    } finally {
      left = true;
    }
  })();
  assert.equal(await outcome(blip.encodeVideo(endless, { signal: controller.signal })), "AbortError");
  assert.ok(left);
});

test("a stream that is stuck is left, too, and told so", async () => {
  const { blip } = await create();
  const controller = new AbortController();
  let left = false;
  const stuck = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => {}),
      return: async () => ((left = true), { done: true }),
    }),
  };
  setTimeout(() => controller.abort(), 5);
  assert.equal(await outcome(blip.encodeVideo(stuck, { signal: controller.signal })), "AbortError");
  assert.ok(left);
});

test("a listener that throws at the end leaves no picture behind", async () => {
  const { blip, engines } = await create();
  const onProgress = ({ done }) => {
    if (done === 1) throw new RangeError("mine");
  };
  assert.equal(await outcome(blip.encodeVideo(clip(2), { onProgress })), "RangeError");
  await settle();
  assert.equal(engines[0].pictures.size, 0);
});
