/** Cases of sdk.mjs, run inside a page of the assembled site. They use the public SDK only. */

import { Blip } from "/pkg/index.js";
import { ensure, equal, instance, rejects, sampleBytes, samples } from "./checks.mjs";

/** A PNG that claims to be of this size and has hardly any pixels: the claim must be enough. */
function pngOfSize(width, height) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 2], 8);
  const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  const noPixels = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
  return new Uint8Array([...signature, ...pngChunk("IHDR", header), ...pngChunk("IDAT", noPixels), ...pngChunk("IEND", [])]);
}

/** Length, name, data and CRC-32 of name and data. */
function pngChunk(name, data) {
  const body = [...new TextEncoder().encode(name), ...data];
  let crc = 0xffffffff;
  for (const byte of body) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  const ends = new DataView(new ArrayBuffer(8));
  ends.setUint32(0, data.length);
  ends.setUint32(4, ~crc >>> 0);
  const [length, check] = [ends.buffer.slice(0, 4), ends.buffer.slice(4)].map((part) => [...new Uint8Array(part)]);
  return [...length, ...body, ...check];
}

/** Inputs that must be refused, with the code of the refusal. */
async function badInputs() {
  const good = await sampleBytes();
  return [
    ["a truncated image", good.slice(0, good.length / 2), {}, "bad-image"],
    ["a text file named .jpg", new File(["not an image"], "a.jpg", { type: "image/jpeg" }), {}, "bad-image"],
    ["an empty file", new File([], "a.png"), {}, "bad-image"],
    ["an image of 20000 x 20000", pngOfSize(20_000, 20_000), {}, "image-too-large"],
    ["an address that is not there", "/samples/none.png", {}, "download-failed"],
    ["no beams", good, { numBeams: 0 }, "bad-option"],
    ["a probability above one", good, { sample: true, topP: 1.5 }, "bad-option"],
    ["a temperature of zero", good, { sample: true, temperature: 0 }, "bad-option"],
    ["more tokens than positions", good, { maxLength: 100_000 }, "bad-option"],
    ["an option of another type", good, { numBeams: "three" }, "bad-option"],
    ["an option that does not exist", good, { numBeam: 3 }, "bad-option"],
    ["an option that would do nothing", good, { topP: 0.5 }, "bad-option"],
    ["nothing in the place of options", good, null, "bad-option"],
  ];
}

async function passesItsSelfTest(device) {
  const { device: tested, ok, checks } = await (await instance(device)).selfTest();
  const wrong = checks.filter((check) => !check.ok);
  ensure(ok && wrong.length === 0, `wrong: ${JSON.stringify(wrong)}`);
  equal(tested, device);
  ensure(checks.length >= 10 && checks.every(({ error, allowed }) => error <= allowed), `only ${checks.length} checks`);
}

/**
 * Makes the software adapter look like a real one and one kernel of it write nothing, for engines in this
 * thread; returns how to end that.
 */
function sabotage(marker) {
  const info = Object.getOwnPropertyDescriptor(GPUAdapterInfo.prototype, "isFallbackAdapter");
  Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { ...info, get: () => false });
  const { createShaderModule } = GPUDevice.prototype;
  let hit = 0;
  GPUDevice.prototype.createShaderModule = function (descriptor) {
    if (!descriptor.code.includes(marker)) return createShaderModule.call(this, descriptor);
    hit++;
    const body = descriptor.code.indexOf("{", descriptor.code.indexOf("fn main(")) + 1;
    const code = `${descriptor.code.slice(0, body)} if (1 < 2) { return; } ${descriptor.code.slice(body)}`;
    return createShaderModule.call(this, { ...descriptor, code });
  };
  return () => {
    Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", info);
    GPUDevice.prototype.createShaderModule = createShaderModule;
    ensure(hit > 0, `no shader has ${marker}`);
  };
}

async function abortsWithinAToken(device) {
  const blip = await instance(device);
  const bytes = await sampleBytes();
  const controller = new AbortController();
  let tokens = 0;
  const call = blip.caption(bytes, {
    signal: controller.signal,
    onToken: () => {
      tokens++;
      controller.abort();
    },
  });
  const error = await call.then(() => null, (error) => error);
  ensure(error instanceof DOMException && error.name === "AbortError", `rejected with ${error?.name}`);
  equal(tokens, 1, "the number of tokens after the abort");
}

const WEBGPU = {
  async "the CPU captions every sample"() {
    const blip = await instance("cpu");
    equal(blip.info.device, "cpu");
    equal(blip.info.fallbackReason ?? null, null);
    ensure(blip.info.knows.nouns.length >= 60, "the model does not say what it knows");
    for (const sample of await samples()) {
      const { text, captions, ms } = await blip.caption(sample);
      ensure(text.length > 0 && captions[0].text === text, `the caption is ${text}`);
      ensure(captions[0].logProb <= 0 && captions[0].tokens.length > 0, "there is no score or no token");
      ensure(ms.encode > 0 && ms.caption > ms.ground && ms.ground > 0, "there are no times");
      ensure(ms.tokens > captions[0].tokens.length - 1, `${ms.tokens} steps for ${captions[0].tokens.length} tokens`);
    }
  },
  async "WebGPU says what the CPU says"() {
    const [cpu, gpu] = [await instance("cpu"), await instance("webgpu")];
    equal(gpu.info.device, "webgpu");
    ensure(gpu.info.adapter.vendor !== "cpu" && gpu.info.adapter.features.length > 0, "the adapter is not described");
    for (const sample of (await samples()).slice(0, 2)) {
      equal((await gpu.caption(sample)).text, (await cpu.caption(sample)).text);
    }
  },
  async "the packaged model answers, matches and ranks on both devices"() {
    const bytes = await sampleBytes();
    const whale = "an orange whale at the bottom";
    for (const device of ["cpu", "webgpu"]) {
      const blip = await instance(device);
      equal((await blip.ask(bytes, "what color is the whale?")).text, "orange", device);
      equal((await blip.ask(bytes, "where is the whale?")).text, "at the bottom", device);
      const [right, wrong] = await blip.match(bytes, [whale, "a blue car at the top"]);
      ensure(right.itm.probability > 0.5 && wrong.itm.probability < 0.1 && right.itc > wrong.itc, JSON.stringify([right, wrong]));
      const [best] = await blip.classify(bytes, ["a blue car at the top", whale, "two green ladders"], { templates: ["{}"] });
      equal(best.label, whale, device);
    }
  },
  "the kernels compute what plain arithmetic does on the CPU": () => passesItsSelfTest("cpu"),
  "the kernels compute what plain arithmetic does on WebGPU": () => passesItsSelfTest("webgpu"),
  async "loading and compiling say how far they are"() {
    const steps = [];
    await using _ = await Blip.create({ device: "cpu", onProgress: (step) => steps.push(step) });
    const downloads = steps.filter(({ phase }) => phase === "download");
    ensure(downloads.every(({ total }) => total === downloads[0].total), "the total is not known from the start");
    equal(downloads.at(-1).loaded, downloads[0].total, "the bytes in the end");
    const compiled = steps.filter(({ phase }) => phase === "compile");
    equal(compiled.map(({ done }) => done), compiled.map((_, index) => index), "the steps of compiling");
    equal(compiled.at(-1).done, compiled.at(-1).total, "the last step of compiling");
  },
  async "auto leaves a software adapter alone and says so"() {
    const blip = await Blip.create();
    const told = new Promise((resolve) => blip.addEventListener("fallback", resolve, { once: true }));
    equal(blip.info.device, "cpu");
    ensure(/software/.test(blip.info.fallbackReason), `the reason is ${blip.info.fallbackReason}`);
    equal((await told).message, blip.info.fallbackReason, "what the event says");
    await blip.dispose();
  },
  async "bad input is refused by code, and the next caption is right, on the CPU"() {
    const blip = await instance("cpu");
    const bytes = await sampleBytes();
    const { text } = await blip.caption(bytes);
    for (const [what, image, options, code] of await badInputs()) {
      await rejects(() => blip.caption(image, options), code).catch((error) => {
        throw new Error(`${what}: ${error.message}`);
      });
      equal((await blip.caption(bytes)).text, text, `the caption after ${what}`);
    }
  },
  async "bad input is refused by code, and the next caption is right, on WebGPU"() {
    const blip = await instance("webgpu");
    for (const [what, image, options, code] of await badInputs()) {
      await rejects(() => blip.caption(image, options), code).catch((error) => {
        throw new Error(`${what}: ${error.message}`);
      });
    }
    const bytes = await sampleBytes();
    equal((await blip.caption(bytes)).text, (await (await instance("cpu")).caption(bytes)).text);
  },
  "a caption is aborted within a token on the CPU": () => abortsWithinAToken("cpu"),
  "a caption is aborted within a token on WebGPU": () => abortsWithinAToken("webgpu"),
  async "a stream ends with the text of the result"() {
    const blip = await instance("cpu");
    const stream = blip.captionStream(await sampleBytes());
    const texts = [];
    for await (const { text } of stream) texts.push(text);
    equal(texts.at(-1), (await stream.result).text);
    ensure(texts.length > 2, `only ${texts.length} steps`);
  },
  async "calls made together take turns: a short one is not held up by a long one, and each has its answer"() {
    const blip = await instance("cpu");
    const urls = await samples();
    const alone = [];
    for (const url of urls) alone.push((await blip.caption(url)).text);
    const order = [];
    const many = blip.caption([...urls, ...urls, ...urls]).then((results) => (order.push("many"), results.map(({ text }) => text)));
    const one = blip.caption(urls[3]).then(({ text }) => (order.push("one"), text));
    equal(await one, alone[3]);
    equal(await many, [...alone, ...alone, ...alone]);
    equal(order, ["one", "many"]);
  },
  async "every kind of image source gives the same caption"() {
    const blip = await instance("cpu");
    const bytes = await sampleBytes();
    const blob = new Blob([bytes], { type: "image/png" });
    const bitmap = await createImageBitmap(blob);
    const offscreen = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = offscreen.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const element = Object.assign(new Image(), { src: URL.createObjectURL(blob) });
    const data = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const { text } = await blip.caption(bytes);
    const sources = { blob, buffer: bytes.buffer, element, bitmap, offscreen, canvas, data, address: new URL(element.src) };
    for (const [kind, source] of Object.entries(sources)) {
      equal((await blip.caption(source)).text, text, `the caption of ${kind}`);
    }
  },
  async "beam search and seeded sampling work, and equal seeds give equal captions"() {
    const blip = await instance("cpu");
    const bytes = await sampleBytes();
    const beams = await blip.caption(bytes, { numBeams: 3, numCaptions: 3 });
    equal(beams.captions.length, 3, "the number of captions");
    const sampling = { sample: true, topP: 0.9, seed: 7 };
    const first = await blip.caption(bytes, sampling);
    equal((await blip.caption(bytes, sampling)).text, first.text);
  },
  async "a caption continues its prompt"() {
    const blip = await instance("cpu");
    const bytes = await sampleBytes();
    const { text } = await blip.caption(bytes);
    const [first, ...rest] = text.split(" ");
    equal((await blip.caption(bytes, { prompt: first })).text, rest.join(" "), "what follows the first word");
  },
  async "an engine in the page's own thread works"() {
    const blip = await Blip.create({ device: "cpu", worker: false });
    const bytes = await sampleBytes();
    equal((await blip.caption(bytes)).text, (await (await instance("cpu")).caption(bytes)).text);
    await blip.dispose();
    await rejects(() => blip.caption(bytes), "disposed");
  },
  async "a disposed instance rejects what is pending, and a new one can be made"() {
    const bytes = await sampleBytes();
    const blip = await Blip.create({ device: "cpu" });
    const pending = rejects(() => blip.caption(bytes), "disposed");
    await blip.dispose();
    await pending;
    await using again = await Blip.create({ device: "cpu" });
    ensure((await again.caption(bytes)).text.length > 0, "no caption");
  },
  async "broken models are refused by code"() {
    // The real pieces of these may be in the cache, where their digests find them.
    const create = (modelUrl) => () => Blip.create({ device: "cpu", modelUrl, cache: "none" });
    await rejects(() => Blip.create({ device: "cpu", model: "none" }), "download-failed");
    await rejects(create("/broken/tampered/tiny/"), "integrity");
    await rejects(create("/broken/truncated/tiny/"), "integrity");
    await rejects(create("/broken/page/tiny/"), "bad-config");
  },
  async "weights that no model can use are refused by code, on both devices"() {
    for (const device of ["cpu", "webgpu"]) {
      for (const [kind, code] of [
        ["nan", "weights-not-finite"],
        ["missing", "weights-missing"],
        ["misshapen", "weights-shape"],
        ["unknown", "weights-unknown"],
      ]) {
        const error = await rejects(() => Blip.create({ device, modelUrl: `/broken/${kind}/tiny/` }), code);
        ensure(error.message.includes("`"), `the tensor is not named: ${error.message}`);
      }
    }
    ensure((await (await instance("cpu")).caption(await sampleBytes())).text.length > 0, "no caption afterwards");
  },
  async "an adapter without a feature the engine needs is refused before anything panics"() {
    const own = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, "features");
    const without = (features) => new Set([...features].filter((name) => name !== "timestamp-query"));
    Object.defineProperty(GPUAdapter.prototype, "features", {
      configurable: true,
      get() {
        return without(own.get.call(this));
      },
    });
    try {
      const error = await rejects(() => Blip.create({ device: "webgpu", worker: false }), "feature-missing");
      ensure(/timestamp-query/.test(error.message), error.message);
    } finally {
      Object.defineProperty(GPUAdapter.prototype, "features", own);
    }
  },
  async "a GPU with a kernel that writes nothing is found out, and auto takes the CPU"() {
    const bytes = await sampleBytes();
    const devices = [];
    const restore = sabotage("var<workgroup> squares");
    try {
      const onProgress = (step) => step.phase === "device" && devices.push(step.device);
      const blip = await Blip.create({ worker: false, onProgress });
      equal(blip.info.device, "cpu");
      equal(devices, ["webgpu", "cpu"]);
      ensure(/computes wrongly: .*layer norm/.test(blip.info.fallbackReason), `the reason is ${blip.info.fallbackReason}`);
      equal((await blip.caption(bytes)).text, (await (await instance("cpu")).caption(bytes)).text);
      await blip.dispose();
    } finally {
      restore();
    }
  },
  async "such a GPU is refused when it was asked for"() {
    const restore = sabotage("var<workgroup> squares");
    try {
      const error = await rejects(() => Blip.create({ device: "webgpu", worker: false }), "gpu-error");
      ensure(/layer norm/.test(error.message), error.message);
    } finally {
      restore();
    }
  },
};

const PLAIN = {
  async "WebGPU asked for and not there is refused by code"() {
    await rejects(() => Blip.create({ device: "webgpu" }), "webgpu-unavailable");
  },
  async "auto captions on the CPU and says why"() {
    const blip = await instance("auto");
    equal(blip.info.device, "cpu");
    ensure(blip.info.fallbackReason.length > 0, "there is no reason");
    ensure((await blip.caption(await sampleBytes())).text.length > 0, "no caption");
  },
  async "a browser without relaxed SIMD gets a module without it, and the same captions"() {
    const blip = await instance("auto");
    equal(blip.info.adapter.features, ["simd128", "relaxed-simd"], "the instructions of this browser");
    const { validate } = WebAssembly;
    // The engine asks whether a probe would be accepted; this module must be by every browser.
    WebAssembly.validate = () => false;
    const baseline = await Blip.create({ device: "cpu", worker: false });
    WebAssembly.validate = validate;
    equal(baseline.info.adapter.features, ["simd128"], "the instructions without relaxed SIMD");
    ensure((await baseline.selfTest()).ok, "the self-test fails");
    for (const sample of await samples()) {
      equal((await baseline.caption(sample)).text, (await blip.caption(sample)).text);
    }
    await baseline.dispose();
  },
};

export const CASES = { webgpu: WEBGPU, plain: PLAIN };
