import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { coded, FakeEngine, serveModel } from "./fake-engine.mjs";
import { create, image, outcome, settle } from "./instance.mjs";

let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

test("calls about one image run one after another, in the order they were made", async () => {
  const { blip, log } = await create();
  await Promise.all([blip.caption(image(9)), blip.caption(image(3)), blip.caption(image(5))]);
  assert.deepEqual(log.filter((line) => / caption /.test(line)), [
    "run caption bytes:9", "end caption bytes:9", "run caption bytes:3", "end caption bytes:3", "run caption bytes:5", "end caption bytes:5",
  ]);
});

test("a long call lets others have their turn", async () => {
  const { blip, log } = await create();
  const long = blip.caption(Array.from({ length: 40 }, () => image(3)));
  await settle(5);
  await blip.caption(image(4));
  const before = log.slice(0, log.indexOf("end caption bytes:4")).filter((line) => line === "end caption bytes:3").length;
  assert.ok(before <= 3, `${before} images of the other call came first`);
  assert.equal((await long).length, 40);
});

test("two long calls share the engine evenly", async () => {
  const { blip, log } = await create();
  await Promise.all([blip.caption(Array(6).fill(image(3))), blip.caption(Array(6).fill(image(4)))]);
  const ends = log.filter((line) => line.startsWith("end caption")).join(" ");
  assert.ok(!/(end caption bytes:3 ){3}/.test(ends) && !/(end caption bytes:4 ){3}/.test(ends), ends);
});

test("a slow file holds up its own call only", async () => {
  const { blip } = await create();
  const slow = new Blob([new Uint8Array(9)]);
  const read = slow.arrayBuffer.bind(slow);
  slow.arrayBuffer = () => new Promise((resolve) => setTimeout(() => resolve(read()), 200));
  const order = [];
  await Promise.all([blip.caption(slow).then(() => order.push("slow")), blip.caption(image()).then(() => order.push("quick"))]);
  assert.deepEqual(order, ["quick", "slow"]);
});

test("a waiting call that is aborted is gone at once and never starts", async () => {
  const { blip, log } = await create();
  const controller = new AbortController();
  const first = blip.caption([image(3), image(3)]);
  const second = blip.caption([image(5), image(5)], { signal: controller.signal });
  await settle(1);
  controller.abort(new RangeError("mine"));
  assert.equal(await outcome(second), "RangeError");
  await first;
  await blip.caption(image(6));
  assert.ok(!log.some((line) => /caption bytes:5/.test(line)), log.join("\n"));
});

test("an abort between two images stops the rest of a list", async () => {
  const { blip, log } = await create();
  const controller = new AbortController();
  const onProgress = ({ done }) => done >= 2 && controller.abort();
  assert.equal(await outcome(blip.caption(Array(9).fill(image(3)), { signal: controller.signal, onProgress })), "AbortError");
  await blip.caption(image(4));
  assert.ok(log.filter((line) => line === "end caption bytes:3").length <= 3, log.join("\n"));
});

test("an error of one call harms no other, and answers do not cross", async () => {
  const one = function (task, request, picture, onEvent) {
    if (picture === "bytes:5") throw coded("bad-option", "not this one");
    return FakeEngine.prototype.one.call(this, task, request, picture, onEvent);
  };
  const { blip } = await create({ one });
  const calls = Array.from({ length: 30 }, (_, index) => {
    const size = 3 + (index % 4);
    if (index % 3 === 0) return blip.match(image(size), [`text ${index}`]).then(([{ text, picture }]) => `${text} ${picture}`);
    if (index % 3 === 1) return blip.ask(image(size), `question ${index}`).then(({ question, picture }) => `${question} ${picture}`);
    return blip.caption([image(size), image(size + 10)]).then((list) => list.map(({ picture }) => picture).join(" "));
  });
  const settled = await Promise.allSettled(calls);
  settled.forEach(({ status, value, reason }, index) => {
    const size = 3 + (index % 4);
    if (size === 5) assert.equal(reason?.code, "bad-option", `call ${index} is ${status}`);
    else if (index % 3 === 2) assert.equal(value, `bytes:${size} bytes:${size + 10}`);
    else assert.equal(value, `${index % 3 === 0 ? "text" : "question"} ${index} bytes:${size}`);
  });
});

test("many calls with random aborts: the rest is right, nothing is left behind, nothing is unhandled", async () => {
  const unhandled = [];
  const note = (error) => unhandled.push(error);
  process.on("unhandledRejection", note);
  const { blip, engines } = await create();
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 0x7fffffff) / 0x7fffffff;
  let [aborted, answered] = [0, 0];
  const caller = async (name) => {
    const encoded = await blip.encode(image(20 + name));
    for (let call = 0; call < 12; call++) {
      const controller = new AbortController();
      const { signal } = controller;
      if (random() < 0.4) setTimeout(() => controller.abort(), random() * 30);
      const kind = random();
      const list = [image(3 + name), kind < 0.6 ? encoded : image(20 + name), image(30 + name)];
      // What an aborted encoding had finished all the same is nobody's.
      const again = async (handles) => {
        const results = await blip.caption(handles);
        for (const handle of handles) handle.dispose();
        return results;
      };
      const made =
        kind < 0.3
          ? blip.caption(list, { signal })
          : kind < 0.6
            ? blip.classify(list, ["a", "b"], { signal })
            : kind < 0.9
              ? blip.encode(list, { signal }).then(again)
              : blip.encodeVideo(list, { frames: 3, signal }).then((clip) => again([clip]));
      try {
        const pictures = (await made).map((result) => (Array.isArray(result) ? result[0].picture : result.picture));
        const expected = list.map((_, index) => `bytes:${[3, 20, 30][index] + name}`);
        assert.deepEqual(pictures, kind < 0.9 ? expected : [`video of ${expected.join(" ")}`]);
        answered++;
      } catch (error) {
        assert.equal(error.name, "AbortError");
        aborted++;
      }
    }
    encoded.dispose();
  };
  await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(caller));
  await settle(50);
  process.off("unhandledRejection", note);
  assert.ok(aborted > 5 && answered > 30, `${aborted} aborted, ${answered} answered`);
  assert.equal(engines[0].pictures.size, 0);
  assert.deepEqual(unhandled, []);
});
