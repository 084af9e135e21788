"""Averages whose result shares the grid of their input, rounded as integer kernels round them."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.fx import GraphModule, Node

from edgewright.graph import ops, pool_window, set_fact, set_pool_window, shape_of, tensor_grid
from edgewright.quantization.scheme import PoolRounding

aten = torch.ops.aten

_JUST_BELOW_ONE: Final = 1 - 2.0 ** -22
"""A scale just below 1 that changes the rounding of exact halves only, for windows of up to 16384
values."""


def lower_averages_to_integers(module: GraphModule, pools: PoolRounding | None = None) -> None:
    """Average the integers directly where result and input share a grid.

    Runtimes sum the integers and round the quotient. The quotient is often exactly half a step (in
    one of 4 windows of 2 x 2, in one of 64 images of 8 x 8), and sums of scaled real numbers land
    slightly above or below it. With a scale of 1 the sums are exact, and so are the halves. For
    averages over whole images, halves are rounded to even. Windows that extend beyond the image,
    and windows whose divisor is not their size, stay unchanged. Every changed average records its
    grid as the fact ``average_grid``.

    Args:
        module: A module with quantize and dequantize calls; modified in place.
        pools: How averages over windows are rounded: ``away`` rounds halves of the stored integers
            away from 0; ``even`` rounds halves of the integers minus the zero point to even; None
            leaves the averages unchanged.
    """
    for node in list(module.graph.nodes):
        if node.target not in ops.INTEGER_AVERAGES or len(node.users) != 1:
            continue
        before, after = node.args[0], next(iter(node.users))
        if not _same_grid(before, after):
            continue
        if not _is_pool(node):
            _unscale(node, 1.0, 0)
        elif pools is not None and _has_equal_windows(node):
            if pools == "away":
                _pad_first(node)
            _unscale(node, *((_JUST_BELOW_ONE, 0) if pools == "away" else (
                1.0, tensor_grid(before).zero_point)))


def _same_grid(before: Any, after: Node) -> bool:
    return (isinstance(before, Node)
            and before.target is ops.DEQUANTIZE and after.target is ops.QUANTIZE
            and tensor_grid(before) == tensor_grid(after))


def _is_pool(node: Node) -> bool:
    if node.target is aten.adaptive_avg_pool2d.default:
        return shape_of(node)[-2:] != (1, 1)
    return node.target is aten.avg_pool2d.default


def _unscale(node: Node, step: float, zero_point: int) -> None:
    """Make an average read integers; its result is quantized with the scale ``step``."""
    before: Any = node.args[0]
    after = next(iter(node.users))
    grid = tensor_grid(before)
    set_fact(node, "average_grid", [float(grid.scale), int(grid.zero_point)])
    with node.graph.inserting_before(node):
        integers = node.graph.call_function(
            before.target, (before.args[0], *grid._replace(
                scale=1.0, zero_point=zero_point)))
    node.update_arg(0, integers)
    after.args = (node, *grid._replace(scale=step, zero_point=zero_point))


def _has_equal_windows(node: Node) -> bool:
    """Whether every window lies fully inside the (padded) image and is divided by its size."""
    source: Any = node.args[0]
    while "val" not in source.meta:  # a dequantize call that was just inserted
        source = source.args[0]
    image = shape_of(source)[-2:]
    if node.target is aten.adaptive_avg_pool2d.default:
        return not any(a % b for a, b in zip(image, shape_of(node)[-2:], strict=True))
    window = pool_window(node)
    rest = [(sides + 2 * padding - size) % step for sides, padding, size, step in zip(
        image, window.padding, window.size, window.stride, strict=True)]
    if window.ceil_mode and not any(rest):
        set_pool_window(node, window._replace(ceil_mode=False))
        window = pool_window(node)
    return window.divisor is None and not window.ceil_mode


def _pad_first(node: Node) -> None:
    """Pad explicitly and quantize the zeros, as kernels that round stored integers read them."""
    if node.target is not aten.avg_pool2d.default:
        return
    before: Any = node.args[0]
    after: Any = next(iter(node.users))
    window = pool_window(node)
    if not window.count_include_pad or not any(window.padding):
        return
    rows, columns = window.padding
    with node.graph.inserting_before(node):
        padded = node.graph.call_function(
            aten.pad.default, (before, [columns, columns, rows, rows], "constant", 0.0))
        stored = node.graph.call_function(after.target, (padded, *tensor_grid(after)))
        value = node.graph.call_function(before.target, (stored, *tensor_grid(before)))
    node.update_arg(0, value)
    set_pool_window(node, window._replace(padding=[0, 0]))
