import assert from "node:assert/strict";
import test from "node:test";
import { engineOptions } from "../dist/options.js";

test("signal and listener stay on the page, the rest goes to the engine", () => {
  const options = { numBeams: 3, prompt: "a", signal: new AbortController().signal, onToken() {} };
  assert.deepEqual(engineOptions(options), { numBeams: 3, prompt: "a" });
});

test("a misspelt option is refused by name", () => {
  assert.throws(() => engineOptions({ numBeam: 3 }), { code: "bad-option", message: /`numBeam`/ });
});

test("a value that JSON would drop or change is refused", () => {
  for (const value of [NaN, Infinity, () => 1, {}, null]) {
    assert.throws(() => engineOptions({ topP: value }), { code: "bad-option", message: /`topP`/ });
  }
});
