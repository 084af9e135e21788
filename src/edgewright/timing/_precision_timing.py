"""Measuring each layer alone, in floating point and in 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgewright.allocation import channel_sizes, find_layers
from edgewright.graph import shape_of, weight_of
from edgewright.measure import compare_latency, pin_to_core
from edgewright.program import Program
from edgewright.runtime import OnnxEngine
from edgewright.timing._layer_timing import (
    ROUNDS,
    WARMUP,
    LayerShape,
    input_shape,
    layer_shape,
    make_layer_model,
    time_files,
)

_ZERO_POINT: Final = 128


@dataclass(frozen=True)
class PrecisionTimes:
    """One layer's median latencies, from interleaved runs.

    Attributes:
        float_ms: With weights and activations in floating point.
        int8_ms: With both in 8 bits. ONNX Runtime's kernels are not faster with fewer bits.
    """

    float_ms: float
    int8_ms: float

    def __add__(self, other: PrecisionTimes) -> PrecisionTimes:
        return PrecisionTimes(self.float_ms + other.float_ms, self.int8_ms + other.int8_ms)


PrecisionTimer = Callable[[LayerShape, int, int], PrecisionTimes]


def measure_precisions(program: Program, weights: Collection[str], *,
                       timer: PrecisionTimer | None = None) -> dict[str, PrecisionTimes]:
    """Time layers alone, in float32 and in 8 bits, on one thread of ONNX Runtime.

    In 8 bits a layer reads and writes integers: the cost of quantizing values between float and
    integer layers is in neither time. Layers of the same shape are timed once.

    Args:
        program: In floating point.
        weights: Names of the layers' weights; for a weight used several times, uses are summed.
        timer: Times of a layer for given inputs and outputs; None for ONNX Runtime.

    Returns:
        The times for one sample, by the weight's name.

    Example:
        >>> import torch
        >>> program = Program.capture(torch.nn.Linear(4, 16), torch.zeros(1, 4))
        >>> measure_precisions(program, ["weight"], timer=lambda shape, inputs, outputs:
        ...                    PrecisionTimes(inputs * outputs, inputs * outputs / 2))
        {'weight': PrecisionTimes(float_ms=64, int8_ms=32.0)}
    """
    known: dict[Any, PrecisionTimes] = {}
    found: dict[str, PrecisionTimes] = {}
    for node in find_layers(program).values():
        weight = weight_of(node)
        name = None if weight is None else str(weight.target)
        if name is None or name not in weights:
            continue
        same = (layer_shape(node), *channel_sizes(node, shape_of))
        if same not in known:
            known[same] = (timer or time_precisions)(*same)
        found[name] = found[name] + known[same] if name in found else known[same]
    return found


def time_precisions(shape: LayerShape, inputs: int, outputs: int) -> PrecisionTimes:
    """Median milliseconds of one layer in both precisions, in interleaved runs."""
    plain = OnnxEngine(make_layer_model(shape, inputs, outputs))
    quantized = OnnxEngine(make_quantized_layer_model(shape, inputs, outputs))
    x = np.random.default_rng(0).integers(0, 256, input_shape(shape, inputs), dtype=np.uint8)
    real = (x.astype(np.float32) - _ZERO_POINT) / _ZERO_POINT
    with pin_to_core():
        found = compare_latency({"float": lambda _: plain.run((real,)),
                                 "int8": lambda _: quantized.run((x,))},
                                rounds=ROUNDS, warmup=WARMUP)
    return PrecisionTimes(found["float"].median_ms, found["int8"].median_ms)


def time_in_integers(shape: LayerShape, sizes: Sequence[tuple[int, int]]) -> list[float]:
    """Median milliseconds of one layer in 8 bits at each (inputs, outputs), in interleaved runs."""
    generator = np.random.default_rng(0)
    return time_files([(make_quantized_layer_model(shape, inputs, outputs),
                        generator.integers(0, 256, input_shape(shape, inputs), dtype=np.uint8))
                       for inputs, outputs in sizes])


def make_quantized_layer_model(shape: LayerShape, inputs: int, outputs: int) -> bytes:
    """`make_layer_model` with uint8 input and output and int8 weights, a scale per output channel.

    It has quantize and dequantize operators like the export of a quantized program.
    """
    model = onnx.load_from_string(make_layer_model(shape, inputs, outputs))
    layer, = model.graph.node
    weight = numpy_helper.to_array(model.graph.initializer[0])
    axis = 1 if shape.operator == "MatMul" else 0
    others = tuple(index for index in range(weight.ndim) if index != axis)
    scales = np.abs(weight).max(axis=others, keepdims=True) / 127
    width = input_shape(shape, inputs)
    tensors = {"wq": np.round(weight / scales).astype(np.int8), "ws": scales.reshape(-1),
               "wz": np.zeros(scales.size, dtype=np.int8),
               "s": np.array(1 / _ZERO_POINT, dtype=np.float32),
               "ys": np.array(_output_scale(weight, axis), dtype=np.float32),
               "z": np.array(_ZERO_POINT, dtype=np.uint8)}
    layer.input[:], layer.output[:] = ["xf", "wf"], ["yf"]
    nodes = [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xf"]),
             helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wf"], axis=axis), layer,
             helper.make_node("QuantizeLinear", ["yf", "ys", "z"], ["y"])]
    graph = helper.make_graph(
        nodes, "layer", [helper.make_tensor_value_info("x", TensorProto.UINT8, width)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [None] * len(width))],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()])
    quantized = helper.make_model(graph, opset_imports=model.opset_import)
    quantized.ir_version = model.ir_version
    content: bytes = quantized.SerializeToString()
    return content


def _output_scale(weight: np.ndarray, axis: int) -> float:
    """A scale such that outputs for inputs between -1 and 1 are rarely out of range."""
    return float(4 * np.sqrt((weight**2).sum() / weight.shape[axis])) / _ZERO_POINT
