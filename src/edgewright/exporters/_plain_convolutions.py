"""Convolutions as converters of edge runtimes take them: paddings in numbers, floats of rank 4."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.fx import GraphModule, Node

from edgewright.exporters._edge_graph import computes_integers
from edgewright.program import named, shape_of, stored_tensors

aten = torch.ops.aten
quantized = torch.ops.quantized_decomposed

_NUMBERED: Final = {aten.conv1d.padding: aten.conv1d.default,
                    aten.conv2d.padding: aten.conv2d.default,
                    aten.conv3d.padding: aten.conv3d.default}


def write_out_padding(module: GraphModule) -> None:
    """Say in numbers what a convolution with "same" or "valid" padding pads, in place.

    Where one end is padded by one more than the other, it becomes a pad before the convolution:
    of integers, where the convolution reads these.
    """
    for node in list(module.graph.nodes):
        if node.target not in _NUMBERED:
            continue
        source, weight, bias = (*node.args, None)[:3]
        rank = len(shape_of(weight)) - 2
        stride, dilation = (_each(named(node, name, 1), rank) for name in ("stride", "dilation"))
        total = [0] * rank
        if named(node, "padding", "valid") == "same":
            total = [by * (size - 1) for by, size in zip(dilation, shape_of(weight)[2:],
                                                         strict=True)]
        uneven = [size % 2 for size in total]
        if any(uneven):
            with module.graph.inserting_before(node):
                source = _padded(module, source, uneven)
        node.args = (source, weight, bias, stride, [size // 2 for size in total], dilation,
                     named(node, "groups", 1))
        node.kwargs = {}
        node.target = _NUMBERED[node.target]


def float_rows_as_images(module: GraphModule) -> None:
    """Write convolutions of rows, of dequantised numbers to floats, as those of images, in place.

    ExecuTorch would quantise the input of a convolution of rows again, and not its weights.
    """
    tensors = stored_tensors(module)
    for node in list(module.graph.nodes):
        if node.target is not aten.conv1d.default or not _reads_integers(node):
            continue
        weight = node.args[1]
        if computes_integers(node) or weight.op != "get_attr":
            continue
        sizes = ([*_each(named(node, name, default), 1), neutral] for name, default, neutral in (
            ("stride", 1, 1), ("padding", 0, 0), ("dilation", 1, 1)))
        with module.graph.inserting_before(node):
            image = module.graph.call_function(aten.unsqueeze.default, (node.args[0], -1))
            name = f"{node.name}_of_images"
            module.register_parameter(name, nn.Parameter(
                tensors[str(weight.target)].detach().unsqueeze(-1), requires_grad=False))
            result = module.graph.call_function(aten.conv2d.default, (
                image, module.graph.get_attr(name), named(node, "bias"), *sizes,
                named(node, "groups", 1)))
            rows = module.graph.call_function(aten.squeeze.dims, (result, [-1]))
        node.replace_all_uses_with(rows)
        module.graph.erase_node(node)


def _reads_integers(node: Node) -> bool:
    source: Any = node.args[0]
    return bool(source.target is quantized.dequantize_per_tensor.default)


def _padded(module: GraphModule, source: Node, sizes: list[int]) -> Node:
    """A value with so much more at each dimension's end."""
    pads = [size for last in reversed(sizes) for size in (0, last)]
    if source.target is not quantized.dequantize_per_tensor.default:
        return module.graph.call_function(aten.constant_pad_nd.default, (source, pads, 0.0))
    integers, *grid = source.args
    padded = module.graph.call_function(aten.constant_pad_nd.default, (integers, pads, grid[1]))
    return module.graph.call_function(source.target, (padded, *grid))


def _each(value: Any, count: int) -> list[int]:
    """One number a dimension."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values
