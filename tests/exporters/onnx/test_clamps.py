"""Clamps of real numbers become clamps of integers with the same result on every grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgewright.exporters.onnx._clamps import clamp_integers
from edgewright.runtime import OnnxEngine


def graph(clamp: Any, zero_points: Any, extra: str = "", outputs: str = "uint8[N] y0",
          **constants: Any) -> Any:
    """A graph whose clamp ``r = ...(h)`` feeds a QuantizeLinear for each zero point."""
    lines = [f"y{i} = QuantizeLinear(r, scale, zero{i})" for i in range(len(zero_points))]
    parsed = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => ({outputs}) '
        f"{{ h = Neg(x)  {clamp}  {'  '.join(lines)}  {extra} }}")
    values = {"scale": np.float32(0.1), **constants,
              **{f"zero{i}": zero for i, zero in enumerate(zero_points)}}
    parsed.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name)
                                    for name, value in values.items())
    return parsed


def rewritten(parsed: Any) -> Any:
    """The operators left by the pass, once it is seen that the outputs are the same."""
    model = ir.from_proto(parsed)
    clamp_integers(model.graph)
    after = ir.to_proto(model)
    x = np.linspace(-30, 30, 1201).astype(np.float32)
    results = [OnnxEngine(proto.SerializeToString()).run((x,)) for proto in (parsed, after)]
    for want, have in zip(*results, strict=True):
        assert np.array_equal(want, have)
    return [node.op_type for node in after.graph.node]


RELU, TWO = "r = Relu(h)", "uint8[N] y0, uint8[N] y1"


@pytest.mark.parametrize(("zero_points", "extra", "outputs", "relus", "clips"), [
    ([np.uint8(0)], "", "uint8[N] y0", 0, 0),
    ([np.int8(-128)], "", "int8[N] y0", 0, 0),
    ([np.uint8(0), np.uint8(0)], "", TWO, 0, 0),
    ([np.uint8(7)], "", "uint8[N] y0", 0, 1),
    ([np.int8(0)], "", "int8[N] y0", 0, 1),
    ([np.uint8(0), np.uint8(7)], "", TWO, 0, 1),
    ([np.uint8(0)], "z = Neg(r)", "uint8[N] y0, float[N] z", 1, 0),
    ([np.uint8(0)], "", "uint8[N] y0, float[N] r", 1, 0),
])
def test_relus_that_are_only_quantized_are_removed(zero_points: list[Any], extra: str, outputs: Any,
                                                   relus: int, clips: int) -> None:
    operators = rewritten(graph(RELU, zero_points, extra, outputs))
    assert (operators.count("Relu"), operators.count("Clip")) == (relus, clips)


@settings(max_examples=30, deadline=None)
@given(zero=st.integers(0, 255), ends=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
       grid=st.tuples(st.integers(0, 255), st.integers(0, 255)))
def test_clamp_and_grid_limits_are_merged(zero: Any, ends: Any, grid: Any) -> None:
    (low, high), (lowest, highest) = map(sorted, (ends, grid))
    parsed = graph("r = Clip(h, low, high)", [np.uint8(zero)], "z = Clip(y0, lowest, highest)",
                   "uint8[N] z", low=np.float32(low), high=np.float32(high),
                   lowest=np.uint8(lowest), highest=np.uint8(highest))
    assert rewritten(parsed).count("Clip") <= 1


def test_narrow_grid_clamps_stay_and_relus_are_removed() -> None:
    parsed = graph(RELU, [np.uint8(0)], "z = Clip(y0, , highest)", "uint8[N] z",
                   highest=np.uint8(15))
    assert rewritten(parsed) == ["Neg", "QuantizeLinear", "Clip"]


def test_relus_are_needed_if_the_grid_has_negative_values() -> None:
    parsed = graph(RELU, [np.uint8(1)], "z = Clip(y0, , highest)", "uint8[N] z",
                   highest=np.uint8(2))
    assert rewritten(parsed) == ["Neg", "QuantizeLinear", "Clip"]
    assert [node.op_type for node in parsed.graph.node].count("Relu") == 1


def test_relus_without_constant_zero_point_stay() -> None:
    parsed = graph(RELU, [np.uint8(0)])
    del parsed.graph.node[-1].input[2]  # uint8 with zero 0 by default: left alone, to be safe
    assert "Relu" in rewritten(parsed)
    plain = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => '
                                    "(float[N] y) { y = Relu(x) }")
    assert rewritten(plain) == ["Relu"]


def test_clamps_with_computed_limits_stay() -> None:
    parsed = graph("m = ReduceMax<keepdims=0>(h)  r = Clip(h, , m)", [np.uint8(0)])
    assert rewritten(parsed)[2] == "Clip"
