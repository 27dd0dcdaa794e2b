"""safetensors files of f32 tensors, read with numpy alone."""

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
