"""The grids that integers of a quantized program lie on, as its calls have them."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch.fx import Node

from edgewright.graph._nodes import argument


class TensorGrid(NamedTuple):
    """One scale for a whole tensor: what a call has after its input, in its order.

    Attributes:
        scale: Of a step.
        zero_point: The integer that stands for 0.
        quant_min: The lowest integer.
        quant_max: The highest.
        dtype: Of the integers.
    """

    scale: Any
    zero_point: Any
    quant_min: Any
    quant_max: Any
    dtype: Any


class ChannelGrid(NamedTuple):
    """A scale per index of one dimension: what a call has after its input, in its order.

    Attributes:
        scales: Of a step, (channels,).
        zero_points: The integers that stand for 0, (channels,).
        axis: The dimension.
        quant_min: The lowest integer.
        quant_max: The highest.
        dtype: Of the integers.
    """

    scales: Any
    zero_points: Any
    axis: Any
    quant_min: Any
    quant_max: Any
    dtype: Any


def tensor_grid(node: Node) -> TensorGrid:
    """The grid that a (de)quantization of a whole tensor reads or writes."""
    return TensorGrid(*(argument(node, name) for name in TensorGrid._fields))


def channel_grid(node: Node) -> ChannelGrid:
    """The grid that a (de)quantization per channel reads or writes."""
    return ChannelGrid(*(argument(node, name) for name in ChannelGrid._fields))
