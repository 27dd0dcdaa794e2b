/**
 * What the tasks answer natively: fixture checkpoints made into models, and asked by the command line tool
 * at the time of the test, so that nothing can go stale.
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const FIXTURES = fileURLToPath(new URL("../fixtures/", import.meta.url));
const CHECKPOINTS = { caption: "networks/caption", vqa: "networks/vqa", itm: "networks/itm", nlvr2: "nlvr2/model.pth" };
const CASES = ["tasks/answer", "tasks/match", "tasks/explain", "nlvr2/cases"];
const PICTURES = 8;
/** What galleries of the pictures are asked: by words, with a second look, and by a picture. */
const QUERIES = [{ text: "a red dog" }, { text: "two cats near the house", top: 3 }, { image: 5 }, { text: "a red dog", rerank: 5, top: 6 }];

/** Models in a folder of their own, and the cases with what is expected of them. */
export class Native {
  #blip;
  #folder = mkdtempSync(join(tmpdir(), "blip-native-"));

  /** @param blip the command line tool */
  constructor(blip) {
    this.#blip = blip;
    const vocab = join(FIXTURES, "networks/vocab.txt");
    for (const [id, checkpoint] of Object.entries(CHECKPOINTS)) {
      this.#run(["convert", join(FIXTURES, checkpoint), "--vocab", vocab, "--out", join(this.#folder, id), "--id", id, "--dtype", "f32"]);
    }
  }

  /** The file behind `/fixtures/…`: of a model, or a picture. */
  file(path) {
    const [, kind, name] = /^(models|pictures)\/([a-z0-9./_-]+)$/i.exec(path) ?? [];
    if (kind === undefined || name.split("/").includes("..")) return undefined;
    const file = kind === "models" ? join(this.#folder, name) : join(FIXTURES, "networks/pictures", name);
    return existsSync(file) ? readFileSync(file) : undefined;
  }

  /** Every case: the request, the reference's answer with its arrays, and the native one. */
  cases() {
    return CASES.flatMap((file) => {
      const { cases } = JSON.parse(readFileSync(join(FIXTURES, `${file}.json`), "utf8"));
      const tensors = join(FIXTURES, `${file}.safetensors`);
      const arrays = existsSync(tensors) ? readTensors(readFileSync(tensors)) : new Map();
      return cases.map(({ name, model = "nlvr2", pictures = [], request, results, floats = [] }) => {
        const reference = { results, floats: floats.map((array) => arrays.get(array)) };
        return { name: name.startsWith("case.") ? `nlvr2.${name}` : name, pictures, request, reference, native: this.#answer(model, pictures, request) };
      });
    });
  }

  /** A gallery of the pictures: what it is asked, and what the tool finds. */
  gallery() {
    const file = join(this.#folder, "gallery.blip");
    const pictures = Array.from({ length: PICTURES }, (_, index) => pictureOf(index));
    this.#run(["gallery", "add", file, ...pictures, "--model", join(this.#folder, "itm")]);
    return { queries: QUERIES, found: QUERIES.map((query) => this.#search(file, query)) };
  }

  /** What the tool reads in a gallery's file that a page has made, and what it finds there. */
  imported(bytes) {
    const [file, gallery] = ["exported.blip", "imported.blip"].map((name) => join(this.#folder, name));
    rmSync(gallery, { force: true });
    writeFileSync(file, bytes);
    this.#run(["gallery", "import", gallery, file]);
    // For a second look the tool would need the pictures, whose paths a page does not know.
    const queries = QUERIES.filter(({ rerank }) => rerank === undefined);
    const entries = lines(this.#run(["gallery", "list", gallery, "--json"]));
    return { entries, queries, found: queries.map((query) => this.#search(gallery, query)) };
  }

  /** Deletes the models. */
  close() {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** What the tool answers, one result a picture. */
  #answer(model, pictures, { task, ...request }) {
    const options = Object.entries(request).flatMap(([name, value]) => option(name, value));
    const ask = (files, extra) => {
      const found = this.#run([task, "--model", join(this.#folder, model), ...options, ...extra, "--json", "--quiet", ...files.map(pictureOf)]);
      return lines(found).map(({ result }) => result);
    };
    if (pictures.length === 0) return ask([], []);
    if (task === "nlvr2") return ask(pictures.flat(), []);
    return pictures.flatMap((frames) => ask(frames, frames.length > 1 ? ["--video"] : []));
  }

  /** What the tool finds in a gallery; pictures are called by the names of their files. */
  #search(gallery, { text, image, ...options }) {
    const query = text === undefined ? ["--image", pictureOf(image)] : [text];
    const flags = Object.entries(options).flatMap(([name, value]) => option(name, value));
    const found = this.#run(["gallery", "search", gallery, ...query, ...flags, "--model", join(this.#folder, "itm"), "--json"]);
    return lines(found).map(({ key, ...rest }) => ({ key: basename(key), ...rest }));
  }

  #run(parameters) {
    return execFileSync(this.#blip, parameters, { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"] });
  }
}

/** A fixture's picture as a file. */
function pictureOf(index) {
  return join(FIXTURES, `networks/pictures/${index}.png`);
}

/** What the tool printed as JSON, an object a line. */
function lines(text) {
  return text.trim().split("\n").map((line) => JSON.parse(line));
}

/** An option as the command line has it. */
function option(name, value) {
  const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  // Attached, because a value may begin with a hyphen.
  if (!Array.isArray(value)) return [`${flag}=${value}`];
  return value.flatMap((item) => (typeof item === "string" ? [`${flag}=${item}`] : [flag, item.question, item.answer]));
}

/** Arrays of a safetensors file that holds numbers of 32 bits. */
function readTensors(file) {
  const length = Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(file.subarray(8, 8 + length).toString());
  return new Map(
    Object.entries(header).map(([name, { dtype, data_offsets: [start, end] }]) => {
      const bytes = Uint8Array.from(file.subarray(8 + length + start, 8 + length + end));
      return [name, dtype === "F32" ? [...new Float32Array(bytes.buffer)] : []];
    }),
  );
}
