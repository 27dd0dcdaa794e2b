/**
 * What the tasks answer natively: fixture checkpoints made into models, and asked by the command line tool
 * at the time of the test, so that nothing can go stale.
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const FIXTURES = fileURLToPath(new URL("../fixtures/", import.meta.url));
const CHECKPOINTS = { caption: "networks/caption", vqa: "networks/vqa", itm: "networks/itm", nlvr2: "nlvr2/model.pth" };
const CASES = ["tasks/answer", "tasks/match", "tasks/explain", "nlvr2/cases"];

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

  /** Deletes the models. */
  close() {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** What the tool answers, one result a picture. */
  #answer(model, pictures, { task, ...request }) {
    const options = Object.entries(request).flatMap(([name, value]) => option(name, value));
    const ask = (files, extra) => {
      const paths = files.map((index) => join(FIXTURES, `networks/pictures/${index}.png`));
      const lines = this.#run([task, "--model", join(this.#folder, model), ...options, ...extra, "--json", "--quiet", ...paths]);
      return lines.trim().split("\n").map((line) => JSON.parse(line).result);
    };
    if (pictures.length === 0) return ask([], []);
    if (task === "nlvr2") return ask(pictures.flat(), []);
    return pictures.flatMap((frames) => ask(frames, frames.length > 1 ? ["--video"] : []));
  }

  #run(parameters) {
    return execFileSync(this.#blip, parameters, { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"] });
  }
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
