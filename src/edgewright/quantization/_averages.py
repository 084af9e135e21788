"""Averages on the grid of what they average, as kernels of integers round them."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed
_MEANS: Final = frozenset({aten.adaptive_avg_pool2d.default, aten.mean.dim})


def average_integers(module: GraphModule) -> None:
    """Take the means over whole images of the integers, where result and input share a grid.

    Runtimes sum the integers and round halves to even. Half of a step is a frequent result (one in
    64 of an image of 8 x 8), and sums of scaled numbers come out beside it, on either side. With
    scale 1 and zero point 0 between, the sums are exact and so are the halves.
    """
    for node in module.graph.nodes:
        if node.target not in _MEANS:
            continue
        before, after = node.args[0], next(iter(node.users))
        if _same_grid(before, after) and len(node.users) == 1:
            with module.graph.inserting_before(node):
                integers = module.graph.call_function(
                    before.target, (before.args[0], *_unscaled(before)))
            node.update_arg(0, integers)
            after.args = (node, *_unscaled(after))


def _same_grid(before: Any, after: Node) -> bool:
    return (isinstance(before, Node)
            and before.target is quantized.dequantize_per_tensor.default
            and after.target is quantized.quantize_per_tensor.default
            and before.args[1:] == after.args[1:])


def _unscaled(node: Node) -> tuple[Any, ...]:
    return (1.0, 0, *node.args[3:])
