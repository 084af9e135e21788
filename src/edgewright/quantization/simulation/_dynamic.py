"""Activations whose range is taken from each input while running."""

from __future__ import annotations

from operator import getitem
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from edgewright.graph import ops
from edgewright.quantization.scheme import Grid

_LEAST_SCALE: Final = float(torch.finfo(torch.float32).tiny)


@final
class DynamicQuantizer(nn.Module):
    """Puts each input as a whole on a grid of its own, as ONNX's DynamicQuantizeLinear does.

    The range is that of the whole batch and contains 0, so an answer depends on what it is batched
    with; on a device the batch is usually one sample.

    Args:
        grid: Unsigned, of 8 bits, not symmetric: the operator has no other.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self._arguments = grid_arguments(grid)

    def forward(self, x: Tensor) -> Tensor:
        """The values of the grid that are nearest to ``x``."""
        arguments = self._arguments
        scale, zero_point = ops.CHOOSE_GRID(
            x, *arguments[:2], _LEAST_SCALE, arguments[2])
        stored = ops.DYNAMIC_QUANTIZE(x, scale, zero_point, *arguments)
        real: Tensor = ops.DYNAMIC_DEQUANTIZE(stored, scale, zero_point, *arguments)
        return real


def grid_arguments(grid: Grid) -> tuple[Any, ...]:
    """Lowest and highest integer and type, as ``quantized_decomposed`` takes them."""
    return *grid.limits, torch.int8 if grid.signed else torch.uint8


def write_dynamic(graph: Graph, source: Node, grid: Grid) -> Node:
    """Write what `DynamicQuantizer` computes after ``source``; the last call."""
    arguments = grid_arguments(grid)
    with graph.inserting_before(source.next):
        chosen = graph.call_function(ops.CHOOSE_GRID, (
            source, *arguments[:2], _LEAST_SCALE, arguments[2]))
        scale = graph.call_function(getitem, (chosen, 0))
        zero_point = graph.call_function(getitem, (chosen, 1))
        stored = graph.call_function(ops.DYNAMIC_QUANTIZE,
                                     (source, scale, zero_point, *arguments))
        return graph.call_function(ops.DYNAMIC_DEQUANTIZE,
                                   (stored, scale, zero_point, *arguments))
