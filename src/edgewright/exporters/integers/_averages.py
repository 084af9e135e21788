"""Averages and pooling as steps of an integer network."""

from __future__ import annotations

import numpy as np
import torch
from torch.fx import Node

from edgewright.exporters.integers._elementwise import requantize
from edgewright.exporters.integers._values import (
    Grid,
    Lowering,
    Stored,
    channels_last,
    grid_of,
    per_axis,
    refuse,
)
from edgewright.graph import argument, ops, pool_window, shape_of
from edgewright.integers import AveragePool, MaximumPool, Window, choose_scaling

aten = torch.ops.aten
Sides = tuple[int, int]


def average(lowering: Lowering, node: Node, grid: Grid) -> Stored:
    """An average over windows or dimensions."""
    value, window, counts, order = _read_average(lowering, node)
    shape = shape_of(node)[1:]
    result = lowering.builder.tensor(grid, shape, order)
    bound = int(np.prod(window.kernel)) * value.tensor.span
    scalings = [choose_scaling(value.tensor.scale / grid.scale / count, bound)
                for count in (counts[:1] if len(set(counts)) == 1 else counts)]
    keep = lowering.builder.constant
    lowering.builder.add(AveragePool(
        input=value.tensor.name, output=result.tensor.name, window=window,
        factors=keep(np.array([one.factor for one in scalings], np.int32)),
        shifts=keep(np.array([one.shift for one in scalings], np.uint8)),
        low=grid.low, high=grid.high))
    return result


def take_maximum(lowering: Lowering, node: Node, grid: Grid) -> Stored:
    """The maximum over windows."""
    value = lowering.operand(node.args[0], node)
    value = lowering.builder.arrange(value, channels_last(value.shape))
    shape = shape_of(node)[1:]
    rank = len(shape) - 1
    sizes = {name: per_axis(argument(node, name), rank)
             for name in ("kernel_size", "stride", "padding", "dilation")}
    window = _window(value.shape, shape, sizes["kernel_size"],
                     sizes["stride"] or sizes["kernel_size"], sizes["padding"],
                     sizes["dilation"])
    result = lowering.builder.tensor(grid_of(value.tensor), shape, channels_last(shape))
    lowering.builder.add(MaximumPool(input=value.tensor.name, output=result.tensor.name,
                                     window=window))
    return requantize(lowering.builder, result, grid)


def bound_of_average(lowering: Lowering, node: Node) -> float:
    """The largest magnitude of an average or a maximum."""
    value = lowering.operand(node.args[0], node)
    return value.tensor.span * value.tensor.scale


def _read_average(lowering: Lowering, node: Node,
                  ) -> tuple[Stored, Window, list[int], tuple[int, ...]]:
    """What is averaged, the window, the elements that count per place, and the result's order."""
    value = lowering.operand(node.args[0], node)
    shape = shape_of(node)[1:]
    if node.target is aten.mean.dim:
        return _read_mean(lowering, node, value, shape)
    value = lowering.builder.arrange(value, channels_last(value.shape))
    sides, out_sides = value.shape[1:], shape[1:]
    if "adaptive" in next(iter(ops.names([node.target]))):
        if any(side % out for side, out in zip(sides, out_sides, strict=True)):
            raise refuse(node, f"windows of different sizes: {sides} is no multiple of "
                               f"{out_sides}")
        size = tuple(side // out for side, out in zip(sides, out_sides, strict=True))
        window = _window(value.shape, shape, size, size, (0,) * len(size), (1,) * len(size))
        return value, window, [int(np.prod(size))], channels_last(shape)
    if node.target is not aten.avg_pool2d.default:
        raise refuse(node, "there is no kernel for it")
    pool = pool_window(node)
    window = _window(value.shape, shape, tuple(pool.size), tuple(pool.stride),
                     tuple(pool.padding), (1, 1))
    return value, window, _counts(window, pool.padding, pool.count_include_pad, pool.divisor,
                                  ), channels_last(shape)


def _read_mean(lowering: Lowering, node: Node, value: Stored, shape: tuple[int, ...],
               ) -> tuple[Stored, Window, list[int], tuple[int, ...]]:
    rank = len(value.shape)
    dims = argument(node, "dim") or range(1, rank + 1)
    averaged = sorted({dim % (rank + 1) - 1
                       for dim in ([dims] if isinstance(dims, int) else dims)})
    if averaged and averaged[0] < 0:
        raise refuse(node, "it averages over the batch")
    kept = [dim for dim in value.order if dim not in averaged]
    value = lowering.builder.arrange(value, (*averaged, *kept))
    rows = int(np.prod([value.shape[dim] for dim in averaged]))
    channels = int(np.prod([value.shape[dim] for dim in kept]))
    window = Window(inputs=(rows, 1, channels), outputs=(1, 1, channels), kernel=(rows, 1))
    if len(shape) == rank:  # the averaged dimensions stay, with one element each
        return value, window, [rows], (*averaged, *kept)
    places = sorted(kept)
    return value, window, [rows], tuple(places.index(dim) for dim in kept)


def _counts(window: Window, padding: list[int], with_padding: bool,
            divisor: int | None) -> list[int]:
    """What the sum of every window is divided by."""
    height, width, _ = window.outputs
    if divisor is not None:
        return [divisor] * (height * width)
    per_axis = []
    for axis, places in enumerate((window.rows(), window.columns())):
        side, before = window.inputs[axis], padding[axis] if with_padding else 0
        per_axis.append([sum(-before <= place < side + before for place in row)
                         for row in places])
    return [rows * columns for rows in per_axis[0] for columns in per_axis[1]]


def _window(shape: tuple[int, ...], out_shape: tuple[int, ...], kernel: tuple[int, ...],
            stride: tuple[int, ...], padding: tuple[int, ...],
            dilation: tuple[int, ...]) -> Window:
    fill = (1,) * (3 - len(shape))
    channels, *sides = shape
    _, *out_sides = out_shape
    return Window(inputs=(*sides, *fill, channels), outputs=(*out_sides, *fill, channels),
                  kernel=(*kernel, *fill), stride=(*stride, *fill),
                  padding=(*padding, *(0 for _ in fill)), dilation=(*dilation, *fill))
