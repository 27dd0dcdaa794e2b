import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { BlipError, ERROR_CODES, toBlipError } from "../dist/protocol.js";

test("the error codes are those of the Rust crate, in its order", () => {
  const source = readFileSync(new URL("../../crate/src/error.rs", import.meta.url), "utf8");
  const codes = [...source.matchAll(/^\s*\w+ => "([a-z-]+)",$/gm)].map((match) => match[1]);
  assert.ok(codes.length > 10, "the pattern no longer finds the codes");
  assert.deepEqual([...ERROR_CODES], codes);
});

test("an error of the engine keeps its code and message", () => {
  const error = toBlipError(Object.assign(new Error("cut short"), { code: "bad-image" }));
  assert.ok(error instanceof BlipError);
  assert.equal(error.code, "bad-image");
  assert.equal(error.message, "cut short");
});

test("an unknown code does not reach the caller", () => {
  assert.equal(toBlipError(Object.assign(new Error("x"), { code: "made-up" })).code, "internal");
  assert.equal(toBlipError(new TypeError("x"), "download-failed").code, "download-failed");
  assert.equal(toBlipError("text").message, "text");
});

test("an AbortError becomes aborted", () => {
  assert.equal(toBlipError(new DOMException("stop", "AbortError")).code, "aborted");
});
