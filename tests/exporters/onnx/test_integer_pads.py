"""Pads between quantizations become pads of integers with the same result."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgewright.exporters.onnx._integer_pads import pad_integers
from edgewright.runtime import OnnxEngine

QUANTIZED = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)"
CONSTANTS = {"s": np.float32(0.05), "z": np.uint8(100), "w": np.uint8(90),
             "p": np.array([0, 2, 1, 0, 0, 1, 0, 1]), "v": np.float32(0.33),
             "c": np.array([0, -1, 1, 0, 0, 1, 0, 1]), "a": np.array([2, 3]),
             "b": np.array([1, 0, 0, 2])}


def model(body: str, inputs: str = "float[N, 3, 5, 5] x") -> bytes:
    parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> '
                                     f"g ({inputs}) => (float[N, C, H, W] y) {{ {body} }}")
    used = {name for node in parsed.graph.node for name in node.input}
    parsed.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name)
                                    for name, array in CONSTANTS.items() if name in used)
    return parsed.SerializeToString()


def rewritten(content: bytes) -> tuple[bytes, list[str]]:
    translated = ir.from_proto(onnx.load_from_string(content))
    pad_integers(translated.graph)
    return (ir.to_proto(translated).SerializeToString(),
            [node.op_type for node in translated.graph])


@pytest.mark.parametrize("pad", [
    "Pad(d, p)", "Pad(d, p, v)", "Pad(d, c, v)", "Pad(d, b, v, a)", "Pad(d, b, , a)",
    'Pad<mode="reflect">(d, b, , a)', 'Pad<mode="edge">(d, p)'])
def test_pads_between_equal_grids_pad_integers(pad: str) -> None:
    content = model(f"{QUANTIZED}  e = {pad}  r = QuantizeLinear(e, s, z) "
                    "y = DequantizeLinear(r, s, z)")
    result, kinds = rewritten(content)
    assert sorted(kinds) == sorted(["QuantizeLinear", "DequantizeLinear", "Pad",
                                    "DequantizeLinear"])
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5)).astype("f4")
    want, = OnnxEngine(content).run((x,))
    have, = OnnxEngine(result).run((x,))
    assert np.array_equal(want, have)


@pytest.mark.parametrize("body", [
    f"{QUANTIZED}  e = Pad(d, p)  r = QuantizeLinear(e, s, w)  y = DequantizeLinear(r, s, w)",
    f"{QUANTIZED}  y = Pad(d, p)",
    "e = Pad(x, p)  r = QuantizeLinear(e, s, z)  y = DequantizeLinear(r, s, z)",
    f"{QUANTIZED}  e = Pad(d, p)  r = QuantizeLinear(e, s, z)  k = DequantizeLinear(r, s, z)  "
    "n = Neg(e)  y = Add(k, n)"])
def test_other_pads_are_unchanged(body: str) -> None:
    content = model(body)
    before = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert rewritten(content)[1] == before


def test_pads_with_computed_values_are_unchanged() -> None:
    content = model(f"{QUANTIZED}  e = Pad(d, p, n)  r = QuantizeLinear(e, s, z)  "
                    "y = DequantizeLinear(r, s, z)", "float[N, 3, 5, 5] x, float n")
    assert rewritten(content)[1].count("QuantizeLinear") == 2
