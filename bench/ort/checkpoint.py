"""The checkpoint that both engines run: BLIP-base for captioning with seeded random weights.

    python checkpoint.py random --keys state_dict_keys.json --seed N --out DIR
    python checkpoint.py resize --from DIR --size PX --out DIR

Both write Hugging Face's layout: config.json, model.safetensors (f32) and a stand-in vocab.txt. `resize`
gives the same network another image size: it keeps the first rows of the position table, which for
random weights is as good as interpolating.
"""

import argparse
import json
import pathlib

import numpy as np

import tensors

CHECKPOINT = "hf caption base"
LAYERS, VOCABULARY = 12, 30522
POSITIONS = "vision_model.embeddings.position_embedding"
TIED = ("text_decoder.cls.predictions.decoder.weight", "text_decoder.bert.embeddings.word_embeddings.weight")
CONFIG = {
    "model_type": "blip",
    "vision_config": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": LAYERS, "num_attention_heads": 12,
        "image_size": 384, "patch_size": 16, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
    },
    "text_config": {
        "vocab_size": 30524, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": LAYERS,
        "num_attention_heads": 12, "max_position_embeddings": 512, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "bos_token_id": 30522, "sep_token_id": 102, "pad_token_id": 0, "encoder_hidden_size": 768,
    },
    "image_text_hidden_size": 256,
}


def random_weights(keys, seed):
    """Every tensor of the checkpoint: N(0, 0.02), around 1 for the scales of norms; nothing is left at zero."""
    generator, weights = np.random.default_rng(seed), {}
    for name, shape, count in json.loads(pathlib.Path(keys).read_text())[CHECKPOINT]["tensors"]:
        for layer in range(max(count, 1)):
            array = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            is_scale = name.endswith(".weight") and "norm" in name.lower()
            weights[name.format(i=layer)] = array + np.float32(1) if is_scale else array
    alias, original = TIED
    if alias in weights:
        weights[alias] = weights[original]
    return weights


def vocabulary():
    """As many distinct tokens as the text network knows, the special ones where BERT has them."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    return "".join(special.get(i, f"w{i}") + "\n" for i in range(VOCABULARY))


def save(out, config, weights):
    out.mkdir(parents=True, exist_ok=True)
    tensors.write(out / "model.safetensors", weights)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "vocab.txt").write_text(vocabulary())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    random = commands.add_parser("random")
    random.add_argument("--keys", required=True)
    random.add_argument("--seed", type=int, required=True)
    random.add_argument("--out", type=pathlib.Path, required=True)
    resize = commands.add_parser("resize")
    resize.add_argument("--from", dest="source", type=pathlib.Path, required=True)
    resize.add_argument("--size", type=int, required=True)
    resize.add_argument("--out", type=pathlib.Path, required=True)
    a = parser.parse_args()
    if a.command == "random":
        save(a.out, CONFIG, random_weights(a.keys, a.seed))
        return
    config = json.loads((a.source / "config.json").read_text())
    weights = tensors.read(a.source / "model.safetensors")
    config["vision_config"]["image_size"] = a.size
    tokens = (a.size // config["vision_config"]["patch_size"]) ** 2 + 1
    weights[POSITIONS] = weights[POSITIONS][:, :tokens]
    save(a.out, config, weights)


main()
