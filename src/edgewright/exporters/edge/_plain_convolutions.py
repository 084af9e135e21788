"""Rewrite convolutions for converters of edge runtimes: numeric padding, floats of rank 4."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgewright.exporters.edge._edge_graph import computes_integers, is_constant
from edgewright.graph import argument, channel_grid, ops, shape_of, stored_tensors

aten = torch.ops.aten
_OPERANDS: Final = ("input", "weight", "bias")


def resolve_padding(module: GraphModule) -> None:
    """Replace "same" and "valid" padding of convolutions by numbers, in place.

    If one side is padded by one more than the other, floating-point inputs are padded before the
    convolution. Runtimes do not support such pads for integers; there both sides are padded equally
    and zeros are added at the front of the weight.
    """
    tensors = stored_tensors(module)
    for node in list(module.graph.nodes):
        if node.target not in ops.NUMBERED_PADDING:
            continue
        source, weight, bias = (argument(node, name) for name in _OPERANDS)
        rank = len(shape_of(weight)) - 2
        stride, dilation = (_expand(argument(node, name), rank) for name in ("stride", "dilation"))
        total = [0] * rank
        if argument(node, "padding") == "same":
            total = [by * (size - 1) for by, size in zip(dilation, shape_of(weight)[2:],
                                                         strict=True)]
        uneven, padding = [size % 2 for size in total], [size // 2 for size in total]
        with module.graph.inserting_before(node):
            if any(uneven) and _reads_integers(node) and is_constant(weight):
                weight = _pad_kernel_front(module, weight, tensors, uneven, dilation)
                padding = [size + more for size, more in zip(padding, uneven, strict=True)]
                dilation = [1] * rank
            elif any(uneven):
                pads = [size for last in reversed(uneven) for size in (0, last)]
                source = module.graph.call_function(aten.constant_pad_nd.default,
                                                    (source, pads, 0.0))
        node.args = (source, weight, bias, stride, padding, dilation, ops.groups_of(node))
        node.kwargs = {}
        node.target = ops.NUMBERED_PADDING[node.target]


def split_transposed_groups(module: GraphModule) -> None:
    """Split grouped transposed convolutions, which LiteRT does not support, in place."""
    for node in list(module.graph.nodes):
        groups = ops.groups_of(node)
        if node.target not in ops.TRANSPOSED_CONVOLUTIONS or groups == 1:
            continue
        rank = len(shape_of(node)) - 2
        stride, padding, output_padding, dilation = (
            _expand(argument(node, name), rank) for name in (
                "stride", "padding", "output_padding", "dilation"))
        source, weight, bias = (argument(node, name) for name in _OPERANDS)
        with module.graph.inserting_before(node):
            operands = zip(_split(source, 1, groups), _split(weight, 0, groups),
                           [None] * groups if bias is None else _split(bias, 0, groups),
                           strict=True)
            parts = [module.graph.call_function(node.target, (
                *three, stride, padding, output_padding, 1, dilation)) for three in operands]
            joined = module.graph.call_function(aten.cat.default, (parts, 1))
        node.replace_all_uses_with(joined)
        module.graph.erase_node(node)


def convert_conv1d_to_conv2d(module: GraphModule) -> None:
    """Convert conv1d of dequantized inputs with a floating-point result to conv2d, in place.

    ExecuTorch would otherwise quantize the input of the conv1d again, but not its weights.
    """
    tensors = stored_tensors(module)
    for node in list(module.graph.nodes):
        if node.target is not aten.conv1d.default or not _reads_integers(node):
            continue
        weight = argument(node, "weight")
        if computes_integers(node) or weight.op != "get_attr":
            continue
        sizes = ([*_expand(argument(node, name), 1), neutral] for name, neutral in (
            ("stride", 1), ("padding", 0), ("dilation", 1)))
        with module.graph.inserting_before(node):
            image = module.graph.call_function(aten.unsqueeze.default, (node.args[0], -1))
            name = f"{node.name}_of_images"
            module.register_parameter(name, nn.Parameter(
                tensors[str(weight.target)].detach().unsqueeze(-1), requires_grad=False))
            result = module.graph.call_function(aten.conv2d.default, (
                image, module.graph.get_attr(name), argument(node, "bias"), *sizes,
                ops.groups_of(node)))
            rows = module.graph.call_function(aten.flatten.using_ints, (result, 2, -1))
        node.replace_all_uses_with(rows)
        module.graph.erase_node(node)


def _reads_integers(node: Node) -> bool:
    source: Any = node.args[0]
    return bool(source.target is ops.DEQUANTIZE)


def _split(value: Node, dim: int, count: int) -> list[Node]:
    """Split a value into equal slices."""
    size = shape_of(value)[dim] // count
    return [value.graph.call_function(aten.slice.Tensor, (
        value, dim, index * size, (index + 1) * size)) for index in range(count)]


def _pad_kernel_front(module: GraphModule, weight: Node, tensors: dict[str, Tensor],
                      front: list[int], dilation: list[int]) -> Node:
    """Expand the dilation of a stored weight, and add zeros at the front of some dimensions."""
    integers: Any = weight.args[0]
    stored, name = tensors[integers.target], f"{weight.name}_shifted"
    taps = list(zip(dilation, stored.shape[2:], front, strict=True))
    shifted = stored.new_zeros((*stored.shape[:2], *(by * (size - 1) + 1 + more
                                                     for by, size, more in taps)))
    shifted[(slice(None), slice(None), *(slice(more, None, by) for by, _, more in taps))] = stored
    module.register_buffer(name, shifted)
    return module.graph.call_function(ops.DEQUANTIZE_CHANNELS,
                                      (module.graph.get_attr(name), *channel_grid(weight)))


def _expand(value: Any, count: int) -> list[int]:
    """Expand a number to one per dimension."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values
