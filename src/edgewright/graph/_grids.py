"""Quantization grids (scale, zero point, limits, dtype), read from the calls of a program."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch.fx import Node

from edgewright.graph._nodes import argument


class TensorGrid(NamedTuple):
    """A per-tensor grid: the arguments of a (de)quantization after its input, in order.

    Attributes:
        scale: The step between two integers.
        zero_point: The integer that represents 0.
        quant_min: The lowest integer.
        quant_max: The highest integer.
        dtype: Type of the integers.
    """

    scale: Any
    zero_point: Any
    quant_min: Any
    quant_max: Any
    dtype: Any


class ChannelGrid(NamedTuple):
    """A per-channel grid: the arguments of a (de)quantization after its input, in order.

    Attributes:
        scales: The step between two integers, (channels,).
        zero_points: The integers that represent 0, (channels,).
        axis: The channel dimension.
        quant_min: The lowest integer.
        quant_max: The highest integer.
        dtype: Type of the integers.
    """

    scales: Any
    zero_points: Any
    axis: Any
    quant_min: Any
    quant_max: Any
    dtype: Any


def tensor_grid(node: Node) -> TensorGrid:
    """The grid of a per-tensor (de)quantization."""
    return TensorGrid(*(argument(node, name) for name in TensorGrid._fields))


def channel_grid(node: Node) -> ChannelGrid:
    """The grid of a per-channel (de)quantization."""
    return ChannelGrid(*(argument(node, name) for name in ChannelGrid._fields))
