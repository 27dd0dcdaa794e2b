import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { createElement, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import renderer, { act } from "react-test-renderer";
import { Blip } from "../dist/index.js";
import { useBlip, useCaption } from "../dist/react.js";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;
// The renderer says of itself, on every use, that it is deprecated.
const { error: complain } = console;
console.error = (first, ...rest) => String(first).includes("react-test-renderer is deprecated") || complain(first, ...rest);

/** Instances that were asked for: `resolve` and `reject` settle the creation. */
let created;
const { create } = Blip;
beforeEach(() => {
  created = [];
  Blip.create = (options) =>
    new Promise((resolve, reject) => {
      const blip = { disposed: 0, dispose: async () => void blip.disposed++ };
      options.signal.addEventListener("abort", () => reject(options.signal.reason));
      created.push({ options, blip, resolve: () => resolve(blip), reject });
    });
});
afterEach(() => {
  Blip.create = create;
});

/** Lets what was put off to the next turn happen, inside React's own bookkeeping. */
const settle = () => act(() => new Promise((resolve) => setTimeout(resolve, 5)));

/** A component that keeps every state it was rendered with. */
function watcher(use) {
  const states = [];
  const Watcher = (props) => {
    states.push(use(props));
    return null;
  };
  return { Watcher, states, last: () => states.at(-1) };
}

const mount = async (element) => {
  let tree;
  await act(async () => void (tree = renderer.create(element)));
  return tree;
};

test("on a server nothing is created", () => {
  const { Watcher, states } = watcher(() => useBlip());
  renderToString(createElement(StrictMode, null, createElement(Watcher)));
  assert.equal(created.length, 0);
  assert.deepEqual(states.map(({ status }) => status), states.map(() => "idle"));
});

test("an instance goes from loading with its progress to ready, and is disposed of with the component", async () => {
  const { Watcher, last } = watcher(() => useBlip({ model: "a", device: "cpu" }));
  const tree = await mount(createElement(Watcher));
  assert.equal(last().status, "loading");
  assert.equal(created.length, 1);
  const [{ options, blip, resolve }] = created;
  assert.equal(options.model, "a");
  assert.equal(options.device, "cpu");
  assert.equal(options.key, undefined);
  await act(async () => options.onProgress({ phase: "load" }));
  assert.deepEqual(last().progress, { phase: "load" });
  await act(async () => resolve());
  assert.equal(last().status, "ready");
  assert.equal(last().blip, blip);
  await act(async () => tree.unmount());
  await settle();
  assert.equal(blip.disposed, 1);
});

test("strict mode, which mounts everything twice, creates one instance and keeps it", async () => {
  const { Watcher, last } = watcher(() => useBlip({ model: "strict" }));
  const tree = await mount(createElement(StrictMode, null, createElement(Watcher)));
  await settle();
  assert.equal(created.length, 1);
  await act(async () => created[0].resolve());
  await settle();
  assert.equal(last().status, "ready");
  assert.equal(created[0].blip.disposed, 0);
  await act(async () => tree.unmount());
  await settle();
  assert.equal(created[0].blip.disposed, 1);
});

test("components with equal options share an instance until the last is gone", async () => {
  const one = watcher(() => useBlip({ model: "b", device: "cpu" }));
  const two = watcher(() => useBlip({ device: "cpu", model: "b", createWorker: () => {} }));
  const both = (first) => createElement("div", null, first ? createElement(one.Watcher) : null, createElement(two.Watcher));
  const tree = await mount(both(true));
  assert.equal(created.length, 1);
  await act(async () => created[0].resolve());
  assert.equal(one.last().blip, two.last().blip);
  await act(async () => tree.update(both(false)));
  await settle();
  assert.equal(created[0].blip.disposed, 0);
  await act(async () => tree.unmount());
  await settle();
  assert.equal(created[0].blip.disposed, 1);
});

test("other options are another instance, and the first is let go", async () => {
  const { Watcher, last } = watcher(({ model }) => useBlip({ model }));
  const tree = await mount(createElement(Watcher, { model: "c" }));
  await act(async () => created[0].resolve());
  await act(async () => tree.update(createElement(Watcher, { model: "d" })));
  await settle();
  assert.equal(created.length, 2);
  assert.equal(created[0].blip.disposed, 1);
  assert.equal(last().status, "loading");
  await act(async () => created[1].resolve());
  assert.equal(last().blip, created[1].blip);
  await act(async () => tree.unmount());
  await settle();
});

test("options that are new objects with equal values in every render create nothing new", async () => {
  const { Watcher } = watcher(() => useBlip({ model: "same", modelBase: new URL("https://example.test/"), createWorker: () => {} }));
  const tree = await mount(createElement(Watcher));
  for (let n = 0; n < 3; n++) await act(async () => tree.update(createElement(Watcher)));
  await settle();
  assert.equal(created.length, 1);
  await act(async () => tree.unmount());
  await settle();
});

test("a creation that nobody waits for any more is cancelled", async () => {
  const { Watcher } = watcher(() => useBlip({ model: "e" }));
  const tree = await mount(createElement(Watcher));
  await act(async () => tree.unmount());
  await settle();
  assert.equal(created[0].options.signal.aborted, true);
  assert.equal(created[0].options.signal.reason.name, "AbortError");
});

test("a failed creation is an error, and the next component tries again", async () => {
  const { Watcher, last } = watcher(() => useBlip({ model: "f" }));
  const tree = await mount(createElement(Watcher));
  const failure = new Error("no network");
  await act(async () => created[0].reject(failure));
  assert.equal(last().status, "error");
  assert.equal(last().error, failure);
  await act(async () => tree.unmount());
  await settle();
  const again = await mount(createElement(Watcher));
  assert.equal(created.length, 2);
  assert.equal(last().status, "loading");
  await act(async () => again.unmount());
  await settle();
});

test("nothing is created before it is enabled", async () => {
  const { Watcher, last } = watcher(({ enabled }) => useBlip({ model: "g", enabled }));
  const tree = await mount(createElement(Watcher, { enabled: false }));
  assert.equal(last().status, "idle");
  assert.equal(created.length, 0);
  await act(async () => tree.update(createElement(Watcher, { enabled: true })));
  assert.equal(created.length, 1);
  assert.equal(last().status, "loading");
  await act(async () => tree.unmount());
  await settle();
});

/** An instance whose captions are written by the test. */
function writer() {
  const calls = [];
  const captionStream = (image, options) => {
    const tokens = [];
    let wake = () => {};
    let end;
    const result = new Promise((resolve, reject) => (end = { resolve, reject }));
    result.catch(() => {});
    let over = false;
    options.signal.addEventListener("abort", () => (end.reject(options.signal.reason), (over = true), wake()));
    calls.push({
      image,
      options,
      say: (text, index = 0) => (tokens.push({ text, index }), wake()),
      finish: (text) => (end.resolve({ text, captions: [] }), (over = true), wake()),
      fail: (error) => (end.reject(error), (over = true), wake()),
    });
    return {
      result,
      async *[Symbol.asyncIterator]() {
        for (;;) {
          if (tokens.length > 0) yield tokens.shift();
          else if (over) return void (await result);
          else await new Promise((resolve) => (wake = resolve));
        }
      },
    };
  };
  return { blip: { captionStream }, calls };
}

test("a caption is shown while it is written", async () => {
  const { blip, calls } = writer();
  const { Watcher, states, last } = watcher((props) => useCaption(props.blip, props.image, { numBeams: 2 }));
  const tree = await mount(createElement(Watcher, { blip, image: undefined }));
  assert.equal(last().status, "idle");
  assert.equal(calls.length, 0);
  await act(async () => tree.update(createElement(Watcher, { blip, image: "a.png" })));
  assert.equal(last().status, "running");
  assert.equal(calls[0].options.numBeams, 2);
  await act(async () => calls[0].say("a red"));
  assert.equal(last().text, "a red");
  await act(async () => calls[0].say("something else", 1));
  assert.equal(last().text, "a red");
  await act(async () => calls[0].finish("a red apple"));
  assert.equal(last().status, "done");
  assert.equal(last().text, "a red apple");
  assert.equal(last().result.text, "a red apple");
  assert.equal(calls.length, 1);
  assert.ok(states.length < 12, `${states.length} renders`);
  await act(async () => tree.unmount());
});

test("another image cancels the caption of the first, whose words are not shown", async () => {
  const { blip, calls } = writer();
  const { Watcher, states, last } = watcher((props) => useCaption(blip, props.image));
  const tree = await mount(createElement(Watcher, { image: "a.png" }));
  await act(async () => calls[0].say("of a"));
  const before = states.length;
  await act(async () => tree.update(createElement(Watcher, { image: "b.png" })));
  assert.equal(calls[0].options.signal.aborted, true);
  await act(async () => calls[1].say("of b"));
  assert.ok(states.slice(before).every(({ text, status }) => text !== "of a" && status === "running"));
  assert.equal(last().text, "of b");
  await act(async () => tree.unmount());
  assert.equal(calls[1].options.signal.aborted, true);
});

test("a caption that fails says why", async () => {
  const { blip, calls } = writer();
  const { Watcher, last } = watcher(() => useCaption(blip, "a.png"));
  const tree = await mount(createElement(Watcher));
  const failure = new Error("bad image");
  await act(async () => calls[0].fail(failure));
  assert.equal(last().status, "error");
  assert.equal(last().error, failure);
  await act(async () => tree.unmount());
});

test("strict mode captions once more, and shows one caption", async () => {
  const { blip, calls } = writer();
  const { Watcher, last } = watcher(() => useCaption(blip, "a.png"));
  const tree = await mount(createElement(StrictMode, null, createElement(Watcher)));
  const live = calls.filter(({ options }) => !options.signal.aborted);
  assert.equal(live.length, 1);
  await act(async () => live[0].finish("a caption"));
  assert.equal(last().text, "a caption");
  await act(async () => tree.unmount());
});
