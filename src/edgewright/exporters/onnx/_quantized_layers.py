"""Find the layers whose weights are stored as integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.exporters.onnx._constants import constant_array

_LINEAR: Final = frozenset({"Gemm", "MatMul"})


@final
@dataclass(frozen=True)
class QuantizedLayer:
    """A Conv, Gemm or MatMul that reads integer weights through a DequantizeLinear.

    Attributes:
        node: The layer.
        stored: The constant that holds the weight.
        weight: int8, (outputs, inputs, ...).
        scales: float32, one per output, or (outputs, groups).
        zero_points: int8, shaped as the scales; None if all are zero.
        group: Number of inputs that share a scale; None if all do.
    """

    node: ir.Node
    stored: ir.Value
    weight: NDArray[Any]
    scales: NDArray[Any]
    zero_points: NDArray[Any] | None
    group: int | None

    @property
    def is_linear(self) -> bool:
        """Whether this is a matrix product and not a convolution."""
        return self.node.op_type in _LINEAR

    @property
    def source(self) -> ir.Value:
        """The input of the layer."""
        source = self.node.inputs[0]
        assert source is not None  # noqa: S101  (a layer has an input)
        return source


def find_quantized_layers(graph: ir.Graph) -> Iterator[QuantizedLayer]:
    """Yield every layer with integer weights, in order."""
    for node in list(graph):
        if node.op_type in ("Conv", *_LINEAR) and (layer := _parse_layer(node)) is not None:
            yield layer


def _axis(dequantize: ir.Node) -> int:
    """The dimension of the scales: 0 for outputs, 1 for groups of inputs."""
    return 1 if dequantize.attributes.get_int("block_size", 0) else 0


def _parse_layer(node: ir.Node) -> QuantizedLayer | None:
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    if node.op_type == "MatMul":     # of the transposed weight
        if dequantize is None or dequantize.op_type != "Transpose":
            return None
        dequantize = dequantize.inputs[0].producer() if dequantize.inputs[0] is not None else None
    elif node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 1:
        return None
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    stored = dequantize.inputs[0]
    weight, scales, zero_points = (constant_array(value)
                                   for value in (*dequantize.inputs, None)[:3])
    if stored is None or weight is None or scales is None or weight.dtype != np.int8:
        return None
    if scales.ndim and dequantize.attributes.get_int("axis", 1) != _axis(dequantize):
        return None
    if zero_points is not None and not zero_points.any():
        zero_points = None
    group = dequantize.attributes.get_int("block_size", 0) or None
    return QuantizedLayer(node, stored, weight, scales, zero_points, group)
