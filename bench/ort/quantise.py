"""onnxruntime's own quantised variants of graphs: what its documentation tells a web developer to do.

    python quantise.py --to int8|q4 FILE.fp32.onnx …      writes FILE.int8.onnx or FILE.q4.onnx beside it

int8  dynamic quantisation: signed 8-bit weights per tensor, activations quantised at run time
q4    MatMulNBits: symmetric 4-bit weights in blocks of 32 with f32 activations, embeddings as well
"""

import argparse
import logging
import pathlib

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

logging.disable(logging.WARNING)
OPERATORS = ("MatMul", "Gather")


def int8(source, target):
    # Products of two activations (attention) stay float: there is no constant matrix in them.
    only_weights = {"MatMulConstBOnly": True}
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, op_types_to_quantize=list(OPERATORS), extra_options=only_weights)


def q4(source, target):
    quantiser = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=True, op_types_to_quantize=OPERATORS)
    quantiser.process()
    quantiser.model.save_model_to_file(str(target))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--to", choices=["int8", "q4"], required=True)
parser.add_argument("graphs", type=pathlib.Path, nargs="+")
a = parser.parse_args()
for source in a.graphs:
    target = source.with_name(source.name.replace(".fp32.", f".{a.to}."))
    {"int8": int8, "q4": q4}[a.to](source, target)
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB", flush=True)
