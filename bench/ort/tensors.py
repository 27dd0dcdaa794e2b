"""safetensors files with f32 tensors, read and written with numpy alone."""

import json
import struct

import numpy as np


def read(path):
    """Name to array of every tensor; arrays are views of one buffer. f32 only."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise SystemExit(f"{path}: {name} is {entry['dtype']}, the benchmark's checkpoint must be F32")
        start, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data, np.float32, (end - start) // 4, start).reshape(entry["shape"])
    return tensors


def write(path, tensors):
    """Writes the arrays as F32 in the order given."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array, np.float32).data)
