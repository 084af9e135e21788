"""Replace strided slices and average pooling by convolutions, which are faster on some runtimes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.fx import GraphModule, Node

from edgewright.graph import (
    argument,
    ops,
    pool_window,
    set_argument,
    set_pool_window,
    shape_of,
    tensor_grid,
)

aten = torch.ops.aten


class _Window(NamedTuple):
    """Size, stride and padding of a depthwise convolution of ones."""

    size: list[int]
    stride: list[int]
    padding: list[int]


def convolve_slices(module: GraphModule) -> None:
    """Replace strided slices of images by strided depthwise convolutions of ones.

    Multiplication by one is exact in integers and in floating point, so the values are the same.
    """
    for node in list(module.graph.nodes):
        step = _slice_step(node)
        if step is not None:
            _convolve(module, node, _Window([1, 1], step, [0, 0]))


def convolve_pools(module: GraphModule) -> None:
    """Replace average pooling of integers on one grid by depthwise convolutions of ones.

    The scale of the ones is 1 divided by the window size. Integer kernels sum the values exactly
    and round halves to even, relative to the zero point.
    """
    for node in list(module.graph.nodes):
        if node.target is not aten.avg_pool2d.default or not _shares_grid(node):
            continue
        window = pool_window(node)
        if window.divisor is None and not window.ceil_mode and (
                window.count_include_pad or not any(window.padding)):
            _convolve(module, node, _Window(*window[:3]))


def normalize_pools(module: GraphModule) -> None:
    """Write pooling in the form that partitioners accept, with an explicit stride.

    Without padding, ``count_include_pad`` is set to False. Adaptive average pooling with equal
    windows becomes average pooling.
    """
    for node in module.graph.nodes:
        if node.target is aten.adaptive_avg_pool2d.default:
            _convert_adaptive_pool(node)
        if node.target is aten.max_pool2d.default and not argument(node, "stride"):
            set_argument(node, "stride", argument(node, "kernel_size"))
        if node.target is aten.avg_pool2d.default:
            window = pool_window(node)
            if not window.ceil_mode and not any(window.padding):
                window = window._replace(count_include_pad=False)
            set_pool_window(node, window)


def _convert_adaptive_pool(node: Node) -> None:
    image, parts = (shape_of(value)[-2:] for value in (node.all_input_nodes[0], node))
    if parts != (1, 1) and not any(a % b for a, b in zip(image, parts, strict=True)):
        size = [a // b for a, b in zip(image, parts, strict=True)]
        node.target, node.args = aten.avg_pool2d.default, (node.args[0], size)


def _shares_grid(node: Node) -> bool:
    before, readers = node.all_input_nodes[0], list(node.users)
    return (before.target is ops.DEQUANTIZE and len(readers) == 1
            and readers[0].target is ops.QUANTIZE
            and tensor_grid(before) == tensor_grid(readers[0]))


def _slice_step(node: Node) -> list[int] | None:
    """The strides of a strided slice of an image, or None."""
    if node.target is not aten.slice.Tensor:
        return None
    dim, start, end, step = (argument(node, name) for name in ("dim", "start", "end", "step"))
    if step == 1 or len(shape_of(node)) != 4:
        return None
    size = shape_of(node.all_input_nodes[0])[dim]
    whole = start in (None, 0) and (end is None or end >= size)
    if dim % 4 < 2 or not whole:
        return None
    return [step, 1] if dim % 4 == 2 else [1, step]


def _convolve(module: GraphModule, node: Node, window: _Window) -> None:
    channels, (rows, columns) = shape_of(node)[1], window.size
    stored = {
        f"{node.name}_ones": torch.ones(channels, 1, rows, columns, dtype=torch.int8),
        f"{node.name}_scale": torch.full((channels,), 1 / (rows * columns)),
        f"{node.name}_zero_point": torch.zeros(channels, dtype=torch.int64)}
    with module.graph.inserting_before(node):
        for name, value in stored.items():
            module.register_buffer(name, value)
        read: list[Any] = [module.graph.get_attr(name) for name in stored]
        weight = module.graph.call_function(ops.DEQUANTIZE_CHANNELS,
                                            (*read, 0, -127, 127, torch.int8))
        result = module.graph.call_function(
            aten.conv2d.default,
            (node.args[0], weight, None, window.stride, window.padding, [1, 1], channels))
    node.replace_all_uses_with(result)
    module.graph.erase_node(node)
