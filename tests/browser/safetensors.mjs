/** Files of safetensors as lists of tensors, for tests that publish changed ones. */

/** Tensors of a file, in the order of their data. */
export function parse(file) {
  const length = Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(file.subarray(8, 8 + length).toString());
  const data = file.subarray(8 + length);
  return Object.entries(header)
    .sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])
    .map(([name, { dtype, shape, data_offsets: [start, end] }]) => ({ name, dtype, shape, bytes: Buffer.from(data.subarray(start, end)) }));
}

/** A file of tensors. */
export function serialise(tensors) {
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
