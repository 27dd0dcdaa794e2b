"""BLIP captioning as ONNX graphs, written node by node from an f32 model directory of `blip convert`.

    python graphs.py --checkpoint DIR --out DIR [--parts vision,crosskv,step]

vision   pixel_values [1,3,S,S] -> image_embeds [1,T,D]
crosskv  image_embeds -> the keys and values of the image for every decoder layer, once an image
step     one token, with the self-attention cache going in and out and the image's keys and values

No PyTorch is needed, and the graphs are at least as lean as an exporter's: weights are stored as the
matrix product wants them, keys are transposed once, the scale sits on the queries, norms and GELU are
single nodes. `check.py` compares them with the reference implementation.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import tensors

OPSET, IR_VERSION = 20, 10


class Graph:
    """Nodes and weights of one graph while it is being written."""

    def __init__(self, weights):
        self.weights, self.nodes, self.initializers, self.count = weights, [], {}, 0

    def op(self, kind, *inputs, outputs=1, **attributes):
        """Adds a node and returns the name of its output, or their names."""
        self.count += 1
        names = [f"{kind.lower()}_{self.count}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"node_{self.count}", **attributes))
        return names if outputs > 1 else names[0]

    def rename(self, tensor, name):
        """Gives a tensor the name of an output of the graph; an Identity node would copy it."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if old == tensor else old for old in names]

    def constant(self, name, array):
        self.initializers.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def shape(self, *dims):
        return self.constant("shape_" + "_".join(map(str, dims)), np.array(dims, np.int64))

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def linear(self, x, name, weight=None, bias=None):
        """x·Wᵀ + b; the matrix is stored transposed, as MatMul takes it."""
        weight = weight or f"{name}.weight"
        matrix = self.constant(f"{weight}.transposed", self.weights[weight].T)
        return self.op("Add", self.op("MatMul", x, matrix), self.weight(bias or f"{name}.bias"))

    def norm(self, x, name, epsilon):
        return self.op("LayerNormalization", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), axis=-1, epsilon=epsilon)

    def heads(self, x, heads, width, perm=(0, 2, 1, 3)):
        """[1,S,D] -> [1,heads,S,width], or another order."""
        return self.op("Transpose", self.op("Reshape", x, self.shape(1, -1, heads, width)), perm=perm)

    def attend(self, q, k, v, width, hidden):
        """softmax(q·k/√width)·v with k as [1,heads,width,S]; [1,S,D]."""
        scale = self.constant("attention_scale", np.array(1 / math.sqrt(width), np.float32))
        scores = self.op("Softmax", self.op("MatMul", self.op("Mul", q, scale), k), axis=-1)
        context = self.op("Transpose", self.op("MatMul", scores, v), perm=(0, 2, 1, 3))
        return self.op("Reshape", context, self.shape(1, -1, hidden))

    def save(self, path, inputs, outputs):
        describe = lambda entry: helper.make_tensor_value_info(*entry)
        graph = helper.make_graph(
            self.nodes, path.stem, [describe(i) for i in inputs], [describe(o) for o in outputs], list(self.initializers.values())
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.save(model, path)
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


KEYS = (0, 2, 3, 1)  # [1,S,heads,width] -> [1,heads,width,S]
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def vision(config, weights, path):
    c, g = config["vision_config"], Graph(weights)
    d, heads, patch, size = c["hidden_size"], c["num_attention_heads"], c["patch_size"], c["image_size"]
    tokens, width, epsilon = (size // patch) ** 2 + 1, d // heads, c["layer_norm_eps"]
    root = "vision_model.embeddings"
    patches = g.op(
        "Conv", "pixel_values", g.weight(f"{root}.patch_embedding.weight"), g.weight(f"{root}.patch_embedding.bias"),
        kernel_shape=[patch, patch], strides=[patch, patch],
    )
    rows = g.op("Transpose", g.op("Reshape", patches, g.shape(1, d, -1)), perm=(0, 2, 1))
    rows = g.op("Concat", g.weight(f"{root}.class_embedding"), rows, axis=1)
    x = g.op("Add", rows, g.weight(f"{root}.position_embedding"))
    thirds = g.constant("qkv_split", np.array([d, d, d], np.int64))
    for i in range(c["num_hidden_layers"]):
        layer = f"vision_model.encoder.layers.{i}"
        qkv = g.linear(g.norm(x, f"{layer}.layer_norm1", epsilon), f"{layer}.self_attn.qkv")
        q, k, v = g.op("Split", qkv, thirds, outputs=3, axis=2)
        context = g.attend(g.heads(q, heads, width), g.heads(k, heads, width, KEYS), g.heads(v, heads, width), width, d)
        x = g.op("Add", x, g.linear(context, f"{layer}.self_attn.projection"))
        inner = g.op("Gelu", g.linear(g.norm(x, f"{layer}.layer_norm2", epsilon), f"{layer}.mlp.fc1"))
        x = g.op("Add", x, g.linear(inner, f"{layer}.mlp.fc2"))
    g.rename(g.norm(x, "vision_model.post_layernorm", epsilon), "image_embeds")
    g.save(path, [("pixel_values", FLOAT, [1, 3, size, size])], [("image_embeds", FLOAT, [1, tokens, d])])


def text_sizes(config):
    c, v = config["text_config"], config["vision_config"]
    return c["num_hidden_layers"], c["num_attention_heads"], c["hidden_size"], (v["image_size"] // v["patch_size"]) ** 2 + 1


def cross_values(config):
    """Names and shapes of the image's keys (transposed) and values."""
    layers, heads, d, tokens = text_sizes(config)
    width = d // heads
    return [
        entry for i in range(layers)
        for entry in ((f"cross_k{i}", FLOAT, [1, heads, width, tokens]), (f"cross_v{i}", FLOAT, [1, heads, tokens, width]))
    ]


def crosskv(config, weights, path):
    layers, heads, d, tokens = text_sizes(config)
    g, width = Graph(weights), d // heads
    for i in range(layers):
        part = f"text_decoder.bert.encoder.layer.{i}.crossattention.self"
        g.rename(g.heads(g.linear("image_embeds", f"{part}.key"), heads, width, KEYS), f"cross_k{i}")
        g.rename(g.heads(g.linear("image_embeds", f"{part}.value"), heads, width), f"cross_v{i}")
    g.save(path, [("image_embeds", FLOAT, [1, tokens, config["vision_config"]["hidden_size"]])], cross_values(config))


def step(config, weights, path):
    layers, heads, d, _ = text_sizes(config)
    g, width, epsilon = Graph(weights), d // heads, config["text_config"]["layer_norm_eps"]
    root = "text_decoder.bert.embeddings"
    words = g.op("Gather", g.weight(f"{root}.word_embeddings.weight"), "input_ids")
    places = g.op("Gather", g.weight(f"{root}.position_embeddings.weight"), "position_ids")
    x = g.norm(g.op("Add", words, places), f"{root}.LayerNorm", epsilon)
    past, present = [], []
    for i in range(layers):
        layer = f"text_decoder.bert.encoder.layer.{i}"
        own, image = f"{layer}.attention", f"{layer}.crossattention"
        for kv, part in (("k", "key"), ("v", "value")):
            new = g.heads(g.linear(x, f"{own}.self.{part}"), heads, width)
            g.rename(g.op("Concat", f"past_{kv}{i}", new, axis=2), f"present_{kv}{i}")
            past.append((f"past_{kv}{i}", FLOAT, [1, heads, "past", width]))
            present.append((f"present_{kv}{i}", FLOAT, [1, heads, "all", width]))
        q = g.heads(g.linear(x, f"{own}.self.query"), heads, width)
        keys = g.op("Transpose", f"present_k{i}", perm=(0, 1, 3, 2))
        context = g.attend(q, keys, f"present_v{i}", width, d)
        x = g.norm(g.op("Add", g.linear(context, f"{own}.output.dense"), x), f"{own}.output.LayerNorm", epsilon)
        q = g.heads(g.linear(x, f"{image}.self.query"), heads, width)
        context = g.attend(q, f"cross_k{i}", f"cross_v{i}", width, d)
        x = g.norm(g.op("Add", g.linear(context, f"{image}.output.dense"), x), f"{image}.output.LayerNorm", epsilon)
        inner = g.op("Gelu", g.linear(x, f"{layer}.intermediate.dense"))
        x = g.norm(g.op("Add", g.linear(inner, f"{layer}.output.dense"), x), f"{layer}.output.LayerNorm", epsilon)
    head = "text_decoder.cls.predictions"
    x = g.op("Gelu", g.linear(x, f"{head}.transform.dense"))
    x = g.norm(x, f"{head}.transform.LayerNorm", epsilon)
    # The matrix is that of the embedding, whether or not the file repeats it.
    g.rename(g.linear(x, head, f"{root}.word_embeddings.weight", f"{head}.bias"), "logits")
    ids = [(name, INT, [1, 1]) for name in ("input_ids", "position_ids")]
    logits = ("logits", FLOAT, [1, 1, config["text_config"]["vocab_size"]])
    g.save(path, ids + past + cross_values(config), [logits] + present)


PARTS = {"vision": vision, "crosskv": crosskv, "step": step}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS))
    a = parser.parse_args()
    config = json.loads((a.checkpoint / "blip.json").read_text())["config"]
    weights = tensors.read(a.checkpoint / "model.safetensors")
    a.out.mkdir(parents=True, exist_ok=True)
    for part in a.parts.split(","):
        PARTS[part](config, weights, a.out / f"{part}.fp32.onnx")
