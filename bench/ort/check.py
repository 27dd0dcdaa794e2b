"""Compares the f32 graphs with transformers' BlipForConditionalGeneration (needs torch and transformers).

    python check.py --checkpoint DIR --graphs DIR

A development check, not part of `cargo xtask bench`: run it after changing graphs.py.
"""

import argparse
import json
import pathlib

import numpy as np
import onnxruntime
import torch
from transformers import BlipConfig, BlipForConditionalGeneration

import forward
import tensors

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
parser.add_argument("--graphs", type=pathlib.Path, required=True)
a = parser.parse_args()
torch.set_grad_enabled(False)
model = BlipForConditionalGeneration(BlipConfig.from_dict(json.loads((a.checkpoint / "blip.json").read_text())["config"]))
weights = tensors.read(a.checkpoint / "model.safetensors")
missing = model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()}, strict=False)
model.tie_weights()
model.eval()
if missing.unexpected_keys:
    raise SystemExit(f"unknown to transformers: {missing.unexpected_keys}")
graphs = forward.Graphs(a.graphs, "fp32")
pixels, ids = forward.pixels(model.config.vision_config.image_size), forward.PREFIX
ours_embeds, ours = graphs.run(pixels, ids)
embeds = model.vision_model(pixel_values=torch.from_numpy(pixels)).last_hidden_state
logits = model.text_decoder(input_ids=torch.tensor([ids]), encoder_hidden_states=embeds, is_decoder=True, use_cache=False).logits[0]
print("missing keys", missing.missing_keys)
print("image states: relative error", forward.relative_error(ours_embeds, embeds.numpy()))
print("logits: relative error", forward.relative_error(ours, logits.numpy()))
