import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { FakeEngine, serveModel } from "./fake-engine.mjs";
import { create, image, outcome, settle } from "./instance.mjs";

let restore;
beforeEach(() => (restore = serveModel()));
afterEach(() => restore());

/** Both calls that give out handles. */
const CALLS = {
  encode: (blip, options) => blip.encode([image(3)], options),
  encodeVideo: (blip, options) => blip.encodeVideo([image(3), image(4)], { frames: 2, ...options }),
};

for (const [name, call] of Object.entries(CALLS)) {
  test(`${name}: what is encoded when the call is aborted meanwhile is freed`, async () => {
    const controller = new AbortController();
    const encode = async function (...args) {
      const handles = await FakeEngine.prototype.encode.apply(this, args);
      controller.abort();
      await settle(5);
      return handles;
    };
    const { blip, engines } = await create({ encode });
    assert.equal(await outcome(call(blip, { signal: controller.signal })), "AbortError");
    await settle(50);
    assert.equal(engines[0].pictures.size, 0);
    assert.equal((await blip.memory()).pictures, 0);
  });

  test(`${name}: handles that are on their way when the call is aborted are freed`, async () => {
    const { blip, worker, engines } = await create();
    const controller = new AbortController();
    const { onmessage } = worker;
    worker.onmessage = (event) => {
      if (event.data.type === "done") controller.abort();
      onmessage(event);
    };
    assert.equal(await outcome(call(blip, { signal: controller.signal })), "AbortError");
    worker.onmessage = onmessage;
    await settle(50);
    assert.equal(engines[0].pictures.size, 0);
    const again = await call(blip, {});
    for (const encoded of [again].flat()) encoded.dispose();
    await settle();
    assert.equal(engines[0].pictures.size, 0, "and the next call is not affected");
  });
}
