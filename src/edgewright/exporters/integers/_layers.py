"""Convolutions and linear layers as steps of an integer network."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from edgewright.exporters.integers._values import (
    Grid,
    Lowering,
    Stored,
    channels_last,
    natural,
    per_axis,
    refuse,
)
from edgewright.graph import argument, bits_of, channel_grid, get_fact, ops, shape_of, tensor_grid
from edgewright.integers import Convolution, Window, choose_scaling, convolution_bound


class _Weights(NamedTuple):
    """The integers of a layer.

    Attributes:
        weight: (outputs, kernel height, kernel width, inputs / groups).
        bias: (outputs,), in steps of the products divided by ``finer_by``.
        scales: Step of the products divided by ``finer_by``, per output.
        bits: Bits of the weights.
        finer_by: How many steps of the bias a product's step is.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    scales: NDArray[np.float64]
    bits: int
    finer_by: int


def convolve(lowering: Lowering, node: Node, grid: Grid) -> Stored:
    """A convolution of one or two dimensions, or a linear layer."""
    value, window = _input(lowering, node)
    layer = _read_weights(lowering, node, value)
    shape = shape_of(node)[1:]
    is_linear = node.target is ops.LINEAR
    result = lowering.builder.tensor(grid, shape,
                                     natural(shape) if is_linear else channels_last(shape))
    bounds = convolution_bound(layer.weight, layer.bias, value.tensor, layer.finer_by)
    try:
        scalings = [choose_scaling(float(scale) / grid.scale, int(bound))
                    for scale, bound in zip(layer.scales, bounds, strict=True)]
    except ValueError as error:
        raise refuse(node, f"its result has a much finer range than its products: {error}"
                     ) from error
    keep = lowering.builder.constant
    lowering.builder.add(Convolution(
        input=value.tensor.name, output=result.tensor.name, weight=keep(layer.weight),
        bias=keep(layer.bias),
        factors=keep(np.array([one.factor for one in scalings], np.int32)),
        shifts=keep(np.array([one.shift for one in scalings], np.uint8)),
        window=window, groups=ops.groups_of(node), bits=layer.bits, finer_by=layer.finer_by,
        low=grid.low, high=grid.high))
    return result


def bound_of_layer(lowering: Lowering, node: Node) -> float:
    """The largest magnitude of a layer's result."""
    value, _ = _input(lowering, node)
    layer = _read_weights(lowering, node, value)
    bounds = convolution_bound(layer.weight, layer.bias, value.tensor, layer.finer_by)
    return float((bounds * layer.scales).max())


def _input(lowering: Lowering, node: Node) -> tuple[Stored, Window]:
    """What a layer reads, in the order that it reads, and its window."""
    value = lowering.operand(node.args[0], node)
    shape = shape_of(node)[1:]
    if node.target is ops.LINEAR:
        value = lowering.builder.arrange(value, natural(value.shape))
        rows = int(np.prod(value.shape[:-1]))
        return value, Window(inputs=(rows, 1, value.shape[-1]), outputs=(rows, 1, shape[-1]),
                             kernel=(1, 1))
    value = lowering.builder.arrange(value, channels_last(value.shape))
    kernel = shape_of(_stored(argument(node, "weight"), node))[2:]
    stride, dilation = (per_axis(argument(node, name), len(kernel))
                        for name in ("stride", "dilation"))
    padding = argument(node, "padding")
    if padding == "same":
        padding = [step * (side - 1) // 2 for step, side in zip(dilation, kernel, strict=True)]
    before = per_axis(0 if padding == "valid" else padding, len(kernel))
    fill = (1,) * (2 - len(kernel))  # a signal is an image of width 1
    channels, *sides = value.shape
    outputs, *out_sides = shape
    return value, Window(
        inputs=(*sides, *fill, channels), outputs=(*out_sides, *fill, outputs),
        kernel=(*kernel, *fill), stride=(*stride, *fill), padding=(*before, *(0 for _ in fill)),
        dilation=(*dilation, *fill))


def _read_weights(lowering: Lowering, node: Node, value: Stored) -> _Weights:
    read = argument(node, "weight")
    integers = lowering.tensors[str(_stored(read, node).target)].numpy().astype(np.int64)
    if read.target is ops.DEQUANTIZE_CHANNELS:
        grid = channel_grid(read)
        if grid.axis != 0:
            raise refuse(node, f"its weights have scales along dimension {grid.axis}")
        scales, zero_points = (lowering.tensors[str(one.target)].double().numpy()
                               for one in (grid.scales, grid.zero_points))
    else:
        one_grid = tensor_grid(read)
        scales, zero_points = (np.full(len(integers), float(one))
                               for one in (one_grid.scale, one_grid.zero_point))
    integers = integers - zero_points.astype(np.int64).reshape(-1, *[1] * (integers.ndim - 1))
    limits = np.iinfo(np.int8)
    if integers.min() < limits.min or integers.max() > limits.max:
        raise refuse(node, "its weights have zero points, and exceed 8 bits without them; use "
                           "affine_weights=False")
    bits = 8 if zero_points.any() else bits_of(read)
    if integers.ndim == 2:
        integers = integers[:, :, None]
    if integers.ndim == 3:
        integers = integers[..., None]
    bias, finer_by = _read_bias(lowering, node, len(integers))
    return _Weights(np.ascontiguousarray(integers.transpose(0, 2, 3, 1).astype(np.int8)), bias,
                    scales * value.tensor.scale / finer_by, bits, finer_by)


def _read_bias(lowering: Lowering, node: Node, outputs: int) -> tuple[NDArray[np.int32], int]:
    read = argument(node, "bias")
    if read is None:
        return np.zeros(outputs, np.int32), 1
    bias = lowering.tensors[str(_stored(read, node).target)].numpy()
    return bias.astype(np.int32), int(get_fact(read, "finer_by") or 1)


def _stored(read: Any, node: Node) -> Node:
    """The stored integers that a weight's or bias's dequantization reads."""
    if isinstance(read, Node) and read.target in (ops.DEQUANTIZE_CHANNELS, ops.DEQUANTIZE):
        stored: Any = read.args[0]
        if isinstance(stored, Node) and stored.op == "get_attr":
            return stored
    raise refuse(node, "its weight or bias is not stored as integers with one scale per tensor or "
                       "output channel")
