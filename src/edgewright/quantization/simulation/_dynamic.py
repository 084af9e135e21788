"""Dynamic quantization: activations whose range is computed from each input at run time."""

from __future__ import annotations

from operator import getitem
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from edgewright.graph import ops
from edgewright.quantization.scheme import Grid

_MINIMUM_NORM: Final = float(torch.finfo(torch.float32).tiny)


@final
class DynamicQuantizer(nn.Module):
    """Quantizes each input with its own scale and zero point, like ONNX's DynamicQuantizeLinear.

    The range covers the whole batch and contains 0, so a result depends on the other samples in the
    batch; on a device the batch is usually one sample.

    Args:
        grid: Must be unsigned, 8-bit and asymmetric, as the operator supports no other grid.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self._arguments = grid_arguments(grid)

    def forward(self, x: Tensor) -> Tensor:
        """Round ``x`` to the nearest values of its grid."""
        arguments = self._arguments
        scale, zero_point = ops.CHOOSE_GRID(
            x, *arguments[:2], _MINIMUM_NORM, arguments[2])
        stored = ops.DYNAMIC_QUANTIZE(x, scale, zero_point, *arguments)
        real: Tensor = ops.DYNAMIC_DEQUANTIZE(stored, scale, zero_point, *arguments)
        return real


def grid_arguments(grid: Grid) -> tuple[Any, ...]:
    """The lowest and the highest integer and the type, as ``quantized_decomposed`` expects them."""
    return *grid.limits, torch.int8 if grid.signed else torch.uint8


def insert_dynamic_quantization(graph: Graph, source: Node, grid: Grid) -> Node:
    """Insert the calls that `DynamicQuantizer` computes after ``source``; return the last call."""
    arguments = grid_arguments(grid)
    with graph.inserting_before(source.next):
        chosen = graph.call_function(ops.CHOOSE_GRID, (
            source, *arguments[:2], _MINIMUM_NORM, arguments[2]))
        scale = graph.call_function(getitem, (chosen, 0))
        zero_point = graph.call_function(getitem, (chosen, 1))
        stored = graph.call_function(ops.DYNAMIC_QUANTIZE,
                                     (source, scale, zero_point, *arguments))
        return graph.call_function(ops.DYNAMIC_DEQUANTIZE,
                                   (stored, scale, zero_point, *arguments))
