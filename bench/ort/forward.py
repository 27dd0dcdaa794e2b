"""Logits of a fixed picture and prefix: how far onnxruntime's quantised graphs are from its own f32.

    python forward.py --graphs DIR --precisions int8,q4      prints {"int8": error, "q4": error} as JSON
    … --compare FILE      adds "f32": how far raw f32 logits [tokens, vocabulary] of another engine are from its own

The picture is that of bench/page/picture.mjs; picture and prefix are those of `blip probe logits`.
"""

import argparse
import json
import pathlib

import numpy as np
import onnxruntime

PREFIX = [30522] + list(range(1037, 1046))


def pixels(size):
    """A normalised picture [1,3,size,size] from a linear congruential generator, in [-1, 1)."""
    state, values = 12345, np.empty(3 * size * size)
    for i in range(values.size):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[i] = state
    return (values / 2**31 - 1).astype(np.float32).reshape(1, 3, size, size)


def relative_error(value, reference):
    """‖value − reference‖ / ‖reference‖."""
    return float(np.linalg.norm(value.astype(np.float64) - reference) / np.linalg.norm(reference.astype(np.float64)))


class Graphs:
    """The three graphs of one precision in native onnxruntime."""

    def __init__(self, folder, precision):
        open_graph = lambda part: onnxruntime.InferenceSession(str(folder / f"{part}.{precision}.onnx"), providers=["CPUExecutionProvider"])
        self.vision, self.cross, self.step = open_graph("vision"), open_graph("crosskv"), open_graph("step")

    def run(self, pixels, ids):
        """Image states, and the logits [tokens, vocabulary] of a prefix fed token by token."""
        (embeds,) = self.vision.run(None, {"pixel_values": pixels})
        cross = dict(zip((o.name for o in self.cross.get_outputs()), self.cross.run(None, {"image_embeds": embeds})))
        names = [o.name for o in self.step.get_outputs()][1:]
        shapes = {i.name: i.shape for i in self.step.get_inputs()}
        past = {n.replace("present", "past"): np.zeros([1, shapes[n.replace("present", "past")][1], 0, 64], np.float32) for n in names}
        rows = []
        for place, token in enumerate(ids):
            inputs = {"input_ids": np.array([[token]]), "position_ids": np.array([[place]])} | past | cross
            logits, *present = self.step.run(None, inputs)
            past = {n.replace("present", "past"): value for n, value in zip(names, present)}
            rows.append(logits[0, 0])
        return embeds, np.stack(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=pathlib.Path, required=True)
    parser.add_argument("--precisions", default="")
    parser.add_argument("--compare", type=pathlib.Path)
    a = parser.parse_args()
    exact = Graphs(a.graphs, "fp32")
    picture = pixels(exact.vision.get_inputs()[0].shape[2])
    _, reference = exact.run(picture, PREFIX)
    del exact
    errors = {}
    if a.compare:
        errors["f32"] = relative_error(np.fromfile(a.compare, "<f4").reshape(reference.shape), reference)
    for precision in filter(None, a.precisions.split(",")):
        _, logits = Graphs(a.graphs, precision).run(picture, PREFIX)
        errors[precision] = relative_error(logits, reference)
    print(json.dumps(errors))
