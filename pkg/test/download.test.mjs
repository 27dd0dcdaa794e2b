import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test, { afterEach } from "node:test";
import { Sha256, sha256 } from "../dist/digest.js";
import { readFile, readRange } from "../dist/download.js";
import { FakeNetwork, IMPATIENT, noise } from "./fake-network.mjs";

const URL_ = "https://example.test/file.bin";
const MIB = 1 << 20;
let restore = () => {};
afterEach(() => restore());

function network(bytes) {
  const fake = new FakeNetwork({ [URL_]: bytes });
  restore = fake.install();
  return fake;
}

async function read(start, end, total, { signal = new AbortController().signal, ...options } = {}) {
  const pieces = [];
  for await (const piece of readRange(URL_, [start, end, total], { signal, patience: IMPATIENT, ...options })) pieces.push(piece);
  return Buffer.concat(pieces);
}

test("a whole file is one request without a range", async () => {
  const bytes = noise(3 * MIB);
  const fake = network(bytes);
  assert.ok((await read(0, bytes.length, bytes.length)).equals(bytes));
  assert.deepEqual(fake.log.map(({ range }) => range), [undefined]);
});

test("part of a file is one range, and only its bytes come", async () => {
  const bytes = noise(3 * MIB);
  const fake = network(bytes);
  assert.ok((await read(10, 20, bytes.length)).equals(bytes.subarray(10, 20)));
  assert.deepEqual(fake.log, [{ url: URL_, range: "bytes=10-19", cache: "default", bytes: 10 }]);
});

test("a connection that breaks is continued where it broke", async () => {
  const bytes = noise(3 * MIB);
  const fake = network(bytes);
  fake.fault(/file/, { cut: MIB });
  fake.fault(/file/, { cut: 0 });
  assert.ok((await read(0, bytes.length, bytes.length)).equals(bytes));
  assert.deepEqual(fake.log.map(({ range }) => range), [undefined, `bytes=${MIB}-`, `bytes=${MIB}-`]);
  assert.equal(fake.served(/file/), bytes.length);
});

test("a connection that breaks again and again is followed as long as it brings something", async () => {
  const bytes = noise(6 * MIB);
  const fake = network(bytes);
  fake.fault(/file/, { cut: MIB / 2 }, 11);
  assert.ok((await read(0, bytes.length, bytes.length)).equals(bytes));
  assert.equal(fake.log.length, 12);
});

test("a connection that brings nothing is given up after the last attempt", async () => {
  const fake = network(noise(MIB));
  fake.fault(/file/, { error: new TypeError("network down") }, 100);
  await assert.rejects(read(0, MIB, MIB), { code: "download-failed", message: /file\.bin: network down/ });
  assert.equal(fake.log.length, 1 + IMPATIENT.retries);
});

test("a server that stops sending counts as a broken connection", async () => {
  const bytes = noise(MIB);
  const fake = network(bytes);
  fake.fault(/file/, { stall: MIB / 2 });
  fake.fault(/file/, { never: true });
  assert.ok((await read(0, MIB, MIB)).equals(bytes));
  assert.equal(fake.log.length, 3);
});

test("a server without ranges is read from the beginning, and what is there already is passed over", async () => {
  const bytes = noise(2 * MIB);
  const fake = network(bytes);
  fake.ranges = false;
  fake.fault(/file/, { cut: MIB });
  assert.ok((await read(0, bytes.length, bytes.length)).equals(bytes));
  assert.ok((await read(MIB, MIB + 7, bytes.length)).equals(bytes.subarray(MIB, MIB + 7)));
});

test("busy servers are asked again, not before they say; others are not", async () => {
  const bytes = noise(MIB);
  for (const status of [429, 500, 503]) {
    const fake = network(bytes);
    fake.fault(/file/, { status });
    assert.ok((await read(0, MIB, MIB)).equals(bytes));
    assert.equal(fake.log.length, 2, status);
  }
  const fake = network(bytes);
  fake.fault(/file/, { status: 429, headers: { "retry-after": "1" } });
  const begun = performance.now();
  await read(0, MIB, MIB);
  assert.ok(performance.now() - begun >= 950);
  for (const status of [401, 403, 404]) {
    const fake = network(bytes);
    fake.fault(/file/, { status });
    await assert.rejects(read(0, MIB, MIB), { code: "download-failed", message: new RegExp(`file\\.bin: HTTP status ${status}`) });
    assert.equal(fake.log.length, 1, status);
  }
});

test("a server that asks for an hour is not waited for", async () => {
  const fake = network(noise(MIB));
  fake.fault(/file/, { status: 429, headers: { "retry-after": "3600" } });
  await assert.rejects(read(0, MIB, MIB), { code: "download-failed", message: /429, to be tried again in 3600 s/ });
});

test("a file of another length than expected is integrity", async () => {
  network(noise(MIB));
  await assert.rejects(read(0, 2 * MIB, 2 * MIB), { code: "integrity", message: /no byte 1048576/ });
  await assert.rejects(read(10, 20, 2 * MIB), { code: "integrity", message: /has 1048576 bytes, expected 2097152/ });
  const fake = network(noise(MIB));
  fake.ranges = false;
  await assert.rejects(read(0, 2 * MIB, 2 * MIB), { code: "integrity", message: /ends after 1048576 bytes/ });
});

test("an answer that does not say where it begins is what was asked for; one that begins later is refused", async () => {
  const bytes = noise(MIB);
  const fake = network(bytes);
  fake.fault(/file/, { hidden: true });
  assert.ok((await read(5, 9, MIB)).equals(bytes.subarray(5, 9)));
  globalThis.fetch = async () => new Response("abc", { status: 206, headers: { "content-range": `bytes 7-9/${MIB}` } });
  await assert.rejects(read(5, 9, MIB), { code: "download-failed", message: /begins at byte 7/ });
});

test("cancelling ends a download between two pieces, with the reason of the signal, and waits for nothing", async () => {
  const fake = network(noise(MIB));
  const reason = new Error("enough");
  for (const fault of [{ stall: MIB / 2 }, { never: true }, { status: 503, headers: { "retry-after": "30" } }]) {
    const controller = new AbortController();
    fake.fault(/file/, fault);
    setTimeout(() => controller.abort(reason), 30);
    const begun = performance.now();
    const patience = { ...IMPATIENT, stall: 60_000 };
    await assert.rejects(read(0, MIB, MIB, { signal: controller.signal, patience }), (error) => error === reason);
    assert.ok(performance.now() - begun < 1000);
  }
});

test("a small file has a limit", async () => {
  network(noise(1000));
  const options = { signal: new AbortController().signal, patience: IMPATIENT };
  assert.equal((await readFile(URL_, 1000, options)).length, 1000);
  await assert.rejects(readFile(URL_, 999, options), { code: "integrity", message: /longer than the 999 bytes/ });
});

test("SHA-256 of pieces is that of the whole, with and without the browser's help", async () => {
  const bytes = noise(100_003);
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, bytes.length]) {
    const expected = createHash("sha256").update(bytes.subarray(0, length)).digest("hex");
    for (const step of [1, 7, 64, 100, 4096]) {
      const digest = new Sha256();
      for (let at = 0; at < length; at += step) digest.update(bytes.subarray(at, Math.min(at + step, length)));
      assert.equal(digest.hex(), expected, `${length} bytes by ${step}`);
    }
    assert.equal(await sha256(bytes.subarray(0, length)), expected);
  }
});
