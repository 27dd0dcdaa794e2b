import assert from "node:assert/strict";
import test from "node:test";
import { hasRelaxedSimd } from "../dist/engine.js";

/** What `WebAssembly.validate` is asked, while it answers `answer`. */
function probed(answer) {
  const { validate } = WebAssembly;
  let probe;
  WebAssembly.validate = (bytes) => {
    probe = bytes;
    return answer;
  };
  try {
    assert.equal(hasRelaxedSimd(), answer);
  } finally {
    WebAssembly.validate = validate;
  }
  return [...probe];
}

test("the browser's answer decides about relaxed SIMD", () => {
  assert.deepEqual(probed(true), probed(false));
});

test("only its relaxed instruction can be a reason to refuse the probe", () => {
  const probe = probed(true);
  const swizzle = [253, 128, 2, 11];
  assert.deepEqual(probe.slice(-4), swizzle);
  // The same with the plain instruction, which is a byte shorter, as are body and section.
  const plain = Uint8Array.from([...probe.slice(0, -4), 253, 14, 11]).with(20, probe[20] - 1).with(22, probe[22] - 1);
  assert.ok(WebAssembly.validate(plain));
});
