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

test("options that would do nothing beside the others are refused by name", () => {
  const refused = [
    ["caption", { topP: 0.5 }, /`topP` does nothing without `sample: true`/],
    ["caption", { sample: false, temperature: 2 }, /`temperature`/],
    ["ask", { seed: 0 }, /`seed`/],
    ["caption", { lengthPenalty: 2 }, /`lengthPenalty` does nothing without beams/],
    ["caption", { numBeams: 1, earlyStopping: true }, /`earlyStopping`/],
    ["caption", { sample: true, lengthRule: "orig" }, /`lengthRule`/],
    ["ask", { convention: "hf", lengthPenalty: 2 }, /`lengthPenalty`/],
    ["ask", { answers: ["a"], numBeams: 3 }, /`numBeams` does nothing with `answers`/],
    ["ask", { candidates: 3 }, /`candidates` does nothing without `answers`/],
    ["classify", { head: "itm", temperature: 1 }, /`temperature`/],
  ];
  for (const [task, options, message] of refused) {
    assert.throws(() => checkedOptions(task, options), { code: "bad-option", message }, JSON.stringify(options));
  }
  const taken = [
    ["caption", { sample: true, topP: 0.5, seed: 0 }],
    ["caption", { numBeams: 2, lengthPenalty: 2, lengthRule: "orig", earlyStopping: true }],
    ["caption", { numBeams: 1, earlyStopping: false, sample: false, repetitionPenalty: 2 }],
    ["ask", { lengthPenalty: 2 }],
    ["ask", { answers: ["a"], candidates: 1, sample: false }],
    ["classify", { temperature: 1 }],
  ];
  for (const [task, options] of taken) assert.deepEqual(checkedOptions(task, options).request, options);
});

test("lists of texts are taken, and anything else in their place is not", () => {
  assert.deepEqual(checkedOptions("ask", { answers: ["yes", "no"], frames: "apart" }).request, { answers: ["yes", "no"], frames: "apart" });
  assert.deepEqual(texts("labels", ["a"]), ["a"]);
  for (const value of ["a", [1], undefined, null, {}]) assert.throws(() => texts("labels", value), { code: "bad-option", message: /`labels`/ });
  for (const value of [1, undefined, null, ["a"]]) assert.throws(() => text("question", value), { code: "bad-option", message: /`question`/ });
});
