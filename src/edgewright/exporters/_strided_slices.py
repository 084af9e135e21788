"""Every other row or column, for runtimes that have convolutions with steps but no such slices."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from edgewright.program import shape_of

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed


def convolve_slices(module: GraphModule) -> None:
    """Turn slices of images with a step into depthwise convolutions with it, of ones.

    A product with one is exact, in integers as in floating point, so that the values are the same.
    """
    for node in list(module.graph.nodes):
        step = _step(node)
        if step is not None:
            _convolve(module, node, step)


def _step(node: Node) -> list[int] | None:
    """Rows and columns to go on by; None for other nodes."""
    if node.target is not aten.slice.Tensor or len(shape_of(node)) != 4:
        return None
    given: list[Any] = [*node.args, *(None, 0, None, None, 1)[len(node.args):]]
    _, dim, start, end, step = given
    size = shape_of(node.all_input_nodes[0])[dim]
    whole = start in (None, 0) and (end is None or end >= size)
    if dim % 4 < 2 or step == 1 or not whole:
        return None
    return [step, 1] if dim % 4 == 2 else [1, step]


def _convolve(module: GraphModule, node: Node, step: list[int]) -> None:
    channels = shape_of(node)[1]
    stored = {f"{node.name}_ones": torch.ones(channels, 1, 1, 1, dtype=torch.int8),
              f"{node.name}_scale": torch.ones(channels),
              f"{node.name}_zero_point": torch.zeros(channels, dtype=torch.int64)}
    with module.graph.inserting_before(node):
        for name, value in stored.items():
            module.register_buffer(name, value)
        read: list[Any] = [module.graph.get_attr(name) for name in stored]
        weight = module.graph.call_function(quantized.dequantize_per_channel.default,
                                            (*read, 0, -127, 127, torch.int8))
        result = module.graph.call_function(
            aten.conv2d.default,
            (node.args[0], weight, None, step, [0, 0], [1, 1], channels))
    node.replace_all_uses_with(result)
    module.graph.erase_node(node)
