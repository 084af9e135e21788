"""Timing layers in both precisions: what is timed, and that the timed files compute the layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgewright.allocation import find_layers
from edgewright.program import Program
from edgewright.runtime import OnnxEngine
from edgewright.timing import PrecisionTimes, measure_precisions
from edgewright.timing._layer_timing import layer_shape, make_layer_model
from edgewright.timing._precision_timing import make_quantized_layer_model, time_precisions


class Clock:
    """Says that 8 bits take half the time, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, shape: Any, inputs: Any, outputs: Any) -> Any:
        self.asked.append((shape.operator, inputs, outputs))
        return PrecisionTimes(float(inputs * outputs), inputs * outputs / 2)


class Twice(nn.Module):
    """Reads one weight twice, another as wide, and a third."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(self.one(x).relu()).relu()))


def test_a_shape_is_timed_once_and_all_uses_are_summed() -> None:
    clock = Clock()
    program = Program.capture(Twice(), torch.zeros(1, 6))
    found = measure_precisions(program, ["one.weight", "two.weight"], timer=clock)
    assert found == {"one.weight": PrecisionTimes(72.0, 36.0),
                     "two.weight": PrecisionTimes(36.0, 18.0)}
    assert clock.asked == [("MatMul", 6, 6)]


@pytest.mark.parametrize(("layer", "size"), [
    (nn.Conv2d(6, 4, (3, 1), stride=(2, 1), padding=(1, 0)), (6, 9, 7)),
    (nn.Conv1d(6, 4, 3), (6, 9)),
    (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 9, 7)),
    (nn.Linear(6, 4), (6,)),
    (nn.Linear(6, 4), (9, 6)),
], ids=lambda value: str(value)[:40])
def test_the_file_in_8_bits_computes_the_layer_in_integers(layer: Any,
                                                           size: tuple[int, ...]) -> None:
    program = Program.capture(layer, torch.zeros(1, *size))
    (node,) = find_layers(program).values()
    widths = (layer.weight.shape[1], layer.weight.shape[0]) if isinstance(layer, nn.Linear) else (
        layer.in_channels, layer.out_channels)
    shape = layer_shape(node)
    model = make_quantized_layer_model(shape, *widths)
    x = np.random.default_rng(1).integers(0, 256, (1, *size), dtype=np.uint8)
    found, = OnnxEngine(model).run((x,))
    want, = OnnxEngine(make_layer_model(shape, *widths)).run(((x.astype(np.float32) - 128) / 128,))
    scale = next(float(onnx.numpy_helper.to_array(tensor)) for tensor
                 in onnx.load_from_string(model).graph.initializer if tensor.name == "ys")
    reached = (found.astype(np.float32) - 128) * scale
    inside = (found > 0) & (found < 255)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(reached[inside], want[inside], atol=1.5 * scale + 0.03)


def test_the_runtime_times_both() -> None:
    program = Program.capture(nn.Conv2d(2, 4, 3), torch.zeros(1, 2, 6, 6))
    (node,) = find_layers(program).values()
    times = time_precisions(layer_shape(node), 2, 4)
    assert times.float_ms > 0
    assert times.int8_ms > 0


@pytest.mark.parametrize(("layer", "size", "kernel"), [
    (nn.Conv2d(16, 16, 3, padding=1), (16, 8, 8), "QLinearConv"),
    (nn.Linear(16, 8), (16,), "QLinearMatMul"),
])
def test_the_runtime_computes_the_file_in_8_bits_in_integers(tmp_path: Path, layer: Any,
                                                             size: tuple[int, ...],
                                                             kernel: str) -> None:
    (node,) = find_layers(Program.capture(layer, torch.zeros(1, *size))).values()
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(make_quantized_layer_model(layer_shape(node), 16, len(layer.weight)), options,
                         providers=["CPUExecutionProvider"])
    assert kernel in {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
