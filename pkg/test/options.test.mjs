import assert from "node:assert/strict";
import test from "node:test";
import { checkedOptions, text, texts } from "../dist/options.js";

test("signal and listeners stay on the page, the rest goes to the engine, pictures apart", () => {
  const options = { numBeams: 3, prompt: "a", alpha: "discard", signal: new AbortController().signal, onToken() {}, onProgress() {} };
  assert.deepEqual(checkedOptions("caption", options), { request: { numBeams: 3, prompt: "a" }, image: { alpha: "discard" } });
});

test("a misspelt option is refused by name, and so is one of another task", () => {
  assert.throws(() => checkedOptions("caption", { numBeam: 3 }), { code: "bad-option", message: /`numBeam`/ });
  assert.throws(() => checkedOptions("match", { numBeams: 3 }), { code: "bad-option", message: /`match` has no option `numBeams`/ });
  assert.throws(() => checkedOptions("match", { onToken() {} }), { code: "bad-option" });
});

test("a value that JSON would drop or change is refused", () => {
  for (const value of [NaN, Infinity, () => 1, {}, null, [1], [null]]) {
    assert.throws(() => checkedOptions("caption", { topP: value }), { code: "bad-option", message: /`topP`/ });
  }
});

test("lists of texts are taken, and anything else in their place is not", () => {
  assert.deepEqual(checkedOptions("ask", { answers: ["yes", "no"] }).request, { answers: ["yes", "no"] });
  assert.deepEqual(texts("labels", ["a"]), ["a"]);
  for (const value of ["a", [1], undefined, null, {}]) assert.throws(() => texts("labels", value), { code: "bad-option", message: /`labels`/ });
  for (const value of [1, undefined, null, ["a"]]) assert.throws(() => text("question", value), { code: "bad-option", message: /`question`/ });
});
