/**
 * Cases of cache.mjs, run inside a page of the assembled site. They use the public SDK only, and reach
 * into the browser's cache to damage it.
 *
 * `servers`, `fault`, `requests`, `reset` and `quota` are functions of the runner.
 */

import { Blip, BlipError } from "/pkg/index.js";

function equal(actual, expected, what = "value") {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what} is ${a}, expected ${b}`);
}

function ensure(held, what) {
  if (!held) throw new Error(what);
}

async function rejects(call, code, message = /./) {
  let result;
  try {
    result = await call();
  } catch (error) {
    ensure(error instanceof BlipError, `${error.name}: ${error.message} is no BlipError`);
    equal(error.code, code, `the code of "${error.message}"`);
    ensure(message.test(error.message), `"${error.message}" does not match ${message}`);
    return;
  }
  await result.blip?.dispose();
  throw new Error(`resolved, expected ${code}`);
}

/** An instance on the CPU, what it reported, and two captions. */
async function load(options) {
  const steps = [];
  const events = [];
  const onProgress = (step) => {
    steps.push(step);
    options.onProgress?.(step);
  };
  const blip = await Blip.create({ device: "cpu", ...options, onProgress });
  for (const type of ["quota", "refetched"]) blip.addEventListener(type, () => events.push(type));
  const captions = [];
  for (const image of await samples()) captions.push((await blip.caption(image, { maxLength: 12 })).text);
  const { model } = blip.info;
  await blip.dispose();
  const downloads = steps.filter(({ phase }) => phase === "download");
  ensure(downloads.length > 0, "no step of the download was reported");
  ensure(downloads.every(({ total }) => total === downloads[0].total), "the total of the download changed");
  ensure(downloads.every(({ loaded }, index) => loaded > (downloads[index - 1]?.loaded ?? 0)), "the download went backwards");
  equal(downloads.at(-1).loaded, downloads[0].total, "bytes at the end");
  return { captions, events, model, downloads, fromCache: downloads.every(({ fromCache }) => fromCache) };
}

async function samples() {
  const list = await (await fetch("/samples/samples.json")).json();
  return list.slice(0, 2).map(({ image }) => new URL(`/samples/${image}`, location.href).href);
}

/** Bytes of weights that the servers gave out since the last `reset`, and the ranges of the requests. */
async function weights() {
  const asked = (await requests()).filter(({ path, method }) => method === "GET" && /\/(cdn|models)\/.*\.(safetensors|bin)/.test(path));
  return { bytes: asked.reduce((sum, { bytes }) => sum + bytes, 0), ranges: asked.map(({ range }) => range ?? null) };
}

async function stored() {
  const cache = await caches.open("blip-web-models-1");
  return { cache, keys: (await cache.keys()).map(({ url }) => url) };
}

/** Changes one byte of a stored piece. */
async function damage(pattern) {
  const { cache, keys } = await stored();
  const found = keys.filter((url) => pattern.test(url));
  equal(found.length, 1, `stored pieces like ${pattern}`);
  const old = await cache.match(found[0]);
  const bytes = new Uint8Array(await old.arrayBuffer());
  bytes[bytes.length >> 1] ^= 1;
  await cache.put(found[0], new Response(bytes, { headers: old.headers }));
}

/** What the model says of the samples. */
let packaged;
function expected() {
  return (packaged ??= folder().then((model) => load({ model, cache: "none" })));
}

const PIECE = 1 << 19;
const folder = async () => `${(await servers()).cdn}/models/captioner/`;
const repository = async (name, options = {}) => ({ model: `fixtures/${name}`, endpoint: (await servers()).hub, ...options });
const EXACT = { dtype: "f16" };

async function cancelled(options, after) {
  const controller = new AbortController();
  const reason = new Error("enough");
  const onProgress = (step) => step.phase === "download" && step.loaded >= after && controller.abort(reason);
  const ended = await load({ ...options, signal: controller.signal, onProgress }).catch((error) => error);
  ensure(ended === reason, `cancelling ended with ${ended?.message}`);
}

const CASES = {
  "a model of another origin is downloaded once, and is there for the next visit": async () => {
    const model = await folder();
    const first = await load({ model });
    equal(first.captions, (await expected()).captions, "captions");
    equal(first.fromCache, false, "fromCache of the first load");
    const size = (await weights()).bytes;
    await reset();
    const second = await load({ model });
    equal(second.captions, first.captions, "captions of the second load");
    equal(second.fromCache, true, "fromCache of the second load");
    equal(await weights(), { bytes: 0, ranges: [] }, "weights of the second load");
    equal((await requests()).map(({ path }) => path), ["/models/captioner/blip.json"], "requests of the second load");
    equal(second.downloads.at(-1).total, first.downloads.at(-1).total, "the total");
    ensure(size > 4e6, `${size} bytes were downloaded`);
  },

  "a damaged piece is read again, alone, and an event says so": async () => {
    const model = await folder();
    await load({ model });
    await damage(/chunk\/[0-9a-f]+\/3$/);
    await reset();
    const { captions, events } = await load({ model });
    equal(captions, (await expected()).captions, "captions");
    equal(events, ["refetched"], "events");
    equal(await weights(), { bytes: PIECE, ranges: [`bytes=${3 * PIECE}-${4 * PIECE - 1}`] }, "what was read");
  },

  "connections that break are continued, and busy servers asked again": async () => {
    const model = await folder();
    await fault("blip.json", { status: 503 }, 1);
    await fault("safetensors", { cut: 3 * PIECE }, 1);
    await fault("safetensors", { status: 429, headers: { "retry-after": "1" } }, 1);
    await fault("safetensors", { down: true }, 1);
    await fault("safetensors", { cut: PIECE }, 1);
    const { captions } = await load({ model });
    equal(captions, (await expected()).captions, "captions");
    // Bytes that were under way when a connection broke are lost; none that arrived is asked for again.
    const { ranges } = await weights();
    equal(ranges.length, 5, "requests");
    const starts = ranges.map((range) => Number(/\d+/.exec(range ?? "0")[0]));
    ensure(starts.every((start, index) => start >= (starts[index - 1] ?? 0)) && starts[4] > starts[2], `starts at ${starts}`);
    await fault("safetensors", { status: 404 }, 1);
    await Blip.cache.delete();
    await rejects(() => load({ model }), "download-failed", /model\.safetensors.*404/);
  },

  "a server without ranges serves too": async () => {
    const model = await folder();
    await fault("safetensors", { whole: true, cut: 2 * PIECE }, 1);
    await fault("safetensors", { whole: true });
    equal((await load({ model })).captions, (await expected()).captions, "captions");
  },

  "a file that is not the manifest's is integrity, and is not kept": async () => {
    const model = await folder();
    await fault("safetensors", { damage: true });
    await rejects(() => load({ model }), "integrity", /model\.safetensors/);
    ensure((await Blip.cache.list()).every(({ complete }) => !complete), "a damaged model is listed as complete");
    await reset();
    equal((await load({ model })).captions, (await expected()).captions, "captions afterwards");
  },

  "a full disk is an event, and the model works": async () => {
    const model = await folder();
    // What the site has stored before counts as well.
    await quota(2 ** 20);
    try {
      const { captions, events } = await load({ model });
      equal(captions, (await expected()).captions, "captions");
      equal(events, ["quota"], "events");
      ensure((await Blip.cache.list()).every(({ complete }) => !complete), "the model is listed as complete");
    } finally {
      await quota();
    }
    await load({ model });
    equal((await Blip.cache.list()).map(({ complete }) => complete), [true], "complete");
  },

  "a model works without its server after the first visit": async () => {
    const model = await folder();
    await load({ model });
    await fault(".", { down: true });
    const { captions, fromCache } = await load({ model });
    equal(captions, (await expected()).captions, "captions");
    equal(fromCache, true, "fromCache");
    await Blip.cache.delete();
    await rejects(() => load({ model }), "download-failed", /blip\.json/);
  },

  "a cancelled download goes on where it stopped": async () => {
    const model = await folder();
    await fault("safetensors", { pause: 10 });
    await cancelled({ model }, 5 * PIECE);
    const [partial] = await Blip.cache.list();
    equal(partial.complete, false, "complete");
    ensure(partial.bytes >= 4 * PIECE, `${partial.bytes} bytes are kept`);
    const { state, cachedBytes, downloadBytes } = await Blip.availability({ model, device: "cpu" });
    equal([state, cachedBytes], ["downloadable", partial.bytes], "availability");
    await reset();
    equal((await load({ model })).captions, (await expected()).captions, "captions");
    equal((await weights()).bytes, downloadBytes, "bytes of the second attempt");
    equal((await Blip.availability({ model, device: "cpu" })).state, "available", "availability afterwards");
  },

  "two instances at once download a model once": async () => {
    const model = await folder();
    const both = await Promise.all([load({ model }), load({ model })]);
    for (const { captions } of both) equal(captions, (await expected()).captions, "captions");
    ensure((await weights()).bytes < 1.5 * both[0].model.bytes, `${(await weights()).bytes} bytes were downloaded`);
  },

  "models in the cache are listed, measured and deleted": async () => {
    const model = await folder();
    const { model: info } = await load({ model });
    const list = await Blip.cache.list();
    equal(list.map(({ key, id, bytes, complete }) => [key, id, bytes, complete]), [[`${model}blip.json`, "captioner", info.bytes, true]], "the list");
    const size = await Blip.cache.size();
    ensure(size >= info.bytes && size < info.bytes + 65536, `the size is ${size}`);
    await Blip.cache.delete("another");
    equal((await Blip.cache.list()).length, 1, "models after deleting another");
    await Blip.cache.delete("captioner");
    equal([await Blip.cache.list(), await Blip.cache.size()], [[], 0], "what is left");
  },

  "nothing is stored where that is not wanted": async () => {
    const model = await folder();
    for (const cache of ["memory", "none"]) {
      equal((await load({ model, cache })).captions, (await expected()).captions, "captions");
      equal((await stored()).keys, [], "what is stored");
    }
  },

  "a repository is converted while it is downloaded: the captions of the manifest's model": async () => {
    const options = await repository("captioner", EXACT);
    const first = await load(options);
    equal(first.captions, (await expected()).captions, "captions");
    equal([first.model.id, first.model.licence, first.model.quantisation], ["fixtures/captioner", "BSD-3-Clause", { vision: "f16", text: "f16" }], "the model");
    ensure((await requests()).every(({ method }) => method === "GET"), "a request needed a preflight");
    await reset();
    const second = await load(options);
    equal([second.captions, second.fromCache], [first.captions, true], "the second load");
    equal((await requests()).map(({ path }) => path), ["/api/models/fixtures/captioner/revision/main?blobs=true"], "requests of the second load");
    await reset();
    await fault(".", { down: true });
    equal((await load(options)).captions, first.captions, "captions without the hub");
  },

  "a repository is quantised as it is asked for": async () => {
    const { model } = await load(await repository("captioner", { dtype: { vision: "q8", text: "q4" } }));
    equal(model.quantisation, { vision: "q8", text: "q4" }, "quantisation");
    const [{ bytes }] = await Blip.cache.list();
    ensure(bytes < 2.5e6, `${bytes} bytes are stored`);
  },

  "pytorch_model.bin gives what model.safetensors gives, also with a head that is not tied": async () => {
    const safetensors = await load(await repository("untied", { dtype: "f32" }));
    const bin = await load(await repository("untied-bin", { dtype: "f32" }));
    equal(bin.captions, safetensors.captions, "captions");
    const [a, b] = await Promise.all((await Blip.cache.list()).map(async ({ key }) => key));
    ensure(a !== b, "both are stored under one key");
  },

  "a conversion survives connections that break, busy servers, and servers without ranges": async () => {
    const options = await repository("captioner", EXACT);
    await fault("api", { status: 429, headers: { "retry-after": "1" } }, 1);
    await fault("vocab", { down: true }, 1);
    await fault("cdn", { whole: true, cut: PIECE }, 2);
    await fault("cdn", { cut: PIECE }, 1);
    await fault("resolve.*safetensors", { status: 502 }, 1);
    equal((await load(options)).captions, (await expected()).captions, "captions");
  },

  "a conversion that was cancelled goes on from its checkpoint": async () => {
    const options = await repository("grown", { dtype: "q8" });
    await fault("cdn", { pause: 1 });
    await cancelled(options, 40 * 2 ** 20);
    const [partial] = await Blip.cache.list();
    equal([partial.id, partial.complete], ["fixtures/grown", false], "what is kept");
    await reset();
    const resumed = await load(options);
    const { bytes, ranges } = await weights();
    ensure(bytes < 45 * 2 ** 20, `${bytes} bytes were read again, at ${ranges}`);
    const manifest = async () => {
      const { cache, keys } = await stored();
      const entry = await (await cache.match(keys.find((url) => url.includes("/model/")))).json();
      return JSON.parse(entry.manifest).files;
    };
    const files = await manifest();
    await Blip.cache.delete();
    const whole = await load(options);
    equal(files, await manifest(), "the container");
    equal(resumed.captions, whole.captions, "captions");
  },

  "a damaged piece of a converted model is converted again": async () => {
    const options = await repository("captioner", EXACT);
    await load(options);
    await damage(/chunk\/fixtures.*\/0$/);
    const { captions, events } = await load(options);
    equal([captions, events], [(await expected()).captions, ["refetched"]], "captions and events");
  },

  "a repository that is not what it says, or not there, is refused": async () => {
    await rejects(async () => load(await repository("replaced", EXACT)), "integrity", /the repository says 0000/);
    await fault("vocab", { damage: true });
    await rejects(async () => load(await repository("captioner", EXACT)), "integrity", /vocab\.txt: differs from the digest/);
    await reset();
    equal((await Blip.cache.list()).filter(({ complete }) => complete), [], "models in the cache");
    await rejects(async () => load(await repository("missing")), "download-failed", /no public repository fixtures\/missing/);
    await rejects(async () => load(await repository("empty")), "download-failed", /has no vocab\.txt, no model\.safetensors or pytorch_model\.bin/);
    await rejects(async () => load({ ...(await repository("captioner")), model: "fixtures/captioner@v9" }), "download-failed", /revision v9/);
  },

  "tasks may come from several sources, with one progress": async () => {
    const { hub: endpoint } = await servers();
    const { captions } = await load({ model: { caption: await folder(), itm: "fixtures/captioner" }, endpoint, tasks: ["caption"], ...EXACT });
    equal(captions, (await expected()).captions, "captions");
    ensure((await requests()).every(({ path }) => !path.includes("fixtures")), "a source that no task needs was asked");
  },
};

/** The names of the cases. */
export function names() {
  return Object.keys(CASES);
}

/** Runs a case with an empty cache and no faults; null, or what went wrong. */
export async function run(name) {
  await expected();
  await Blip.cache.delete();
  await reset();
  try {
    await CASES[name]();
    return null;
  } catch (error) {
    return error.stack ?? String(error);
  }
}
