/** Model folders whose manifest agrees with their weights, and whose weights no model can use. */

import { createHash } from "node:crypto";
import { parse, serialise } from "./safetensors.mjs";

const HALF_NAN = 0x7e00;

/** What is done to the tensors. */
const EDITS = {
  nan(tensors) {
    tensors.find(({ dtype }) => dtype === "F16").bytes.writeUInt16LE(HALF_NAN, 2);
    return tensors;
  },
  missing: (tensors) => tensors.slice(1),
  misshapen(tensors) {
    const square = tensors.find(({ shape }) => shape.length === 2 && shape[0] !== shape[1]);
    square.shape.reverse();
    return tensors;
  },
  unknown: (tensors) => [...tensors, { name: "text_decoder.bert.pooler.weight", dtype: "F16", shape: [1], bytes: Buffer.alloc(2) }],
};

/** The kinds of folder, for addresses such as `/broken/nan/tiny/`. */
export const KINDS = Object.keys(EDITS);

/** What such a folder answers for `path`; `real` reads the files of the sound one. */
export async function answer(kind, path, real) {
  const beside = (name) => path.replace(/[^/]*$/, name);
  const manifest = JSON.parse((await real(beside("blip.json"))).toString());
  const file = beside(manifest.files.weights.path);
  if (path !== file && !path.endsWith("blip.json")) return real(path);
  const weights = serialise(EDITS[kind](parse(await real(file))));
  if (path === file) return weights;
  manifest.files.weights.bytes = weights.length;
  delete manifest.files.weights.chunks;
  manifest.files.weights.sha256 = createHash("sha256").update(weights).digest("hex");
  return Buffer.from(JSON.stringify(manifest));
}
