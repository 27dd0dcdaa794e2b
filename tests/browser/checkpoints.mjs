/** Model folders whose manifest agrees with their weights, and whose weights no model can use. */

import { createHash } from "node:crypto";

/** Tensors by name, in the order of their data. */
function parse(file) {
  const length = Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(file.subarray(8, 8 + length).toString());
  const data = file.subarray(8 + length);
  return Object.entries(header)
    .sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])
    .map(([name, { dtype, shape, data_offsets: [start, end] }]) => ({ name, dtype, shape, bytes: Buffer.from(data.subarray(start, end)) }));
}

function serialise(tensors) {
  let end = 0;
  const header = {};
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, (end += bytes.length)] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...tensors.map(({ bytes }) => bytes)]);
}

const HALF_NAN = 0x7e00;

/** What is done to the tensors. */
const EDITS = {
  nan(tensors) {
    tensors[3].bytes.writeUInt16LE(HALF_NAN, 2);
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
  if (!path.endsWith(".safetensors") && !path.endsWith("blip.json")) return real(path);
  const manifest = JSON.parse((await real(path.replace(/[^/]*$/, "blip.json"))).toString());
  const weights = serialise(EDITS[kind](parse(await real(path.replace(/[^/]*$/, manifest.files.weights.path)))));
  if (path.endsWith(".safetensors")) return weights;
  manifest.files.weights.bytes = weights.length;
  delete manifest.files.weights.chunks;
  manifest.files.weights.sha256 = createHash("sha256").update(weights).digest("hex");
  return Buffer.from(JSON.stringify(manifest));
}
