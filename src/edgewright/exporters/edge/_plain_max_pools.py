"""Write adaptive max pooling as operators that the edge runtimes' converters know."""

from __future__ import annotations

import operator
from typing import Any, Final

import torch
from torch.fx import GraphModule, Node

from edgewright.graph import ops, shape_of, tensor_grid

aten = torch.ops.aten
_POOLED_DIMS: Final[dict[Any, int]] = {
    aten.adaptive_max_pool1d.default: 1, aten.adaptive_max_pool2d.default: 2,
    aten.adaptive_max_pool3d.default: 3}


def write_max_pools(module: GraphModule) -> None:
    """Replace adaptive max pooling whose indices are not read, in place.

    Equal windows of images become a max pool. Else the windows of one dimension after the other
    are sliced and reduced: the largest of the rows' largest values is the largest of all.
    """
    for node in list(module.graph.nodes):
        if node.target not in _POOLED_DIMS or any(
                user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
            continue
        for values in list(node.users):
            with module.graph.inserting_before(values):
                values.replace_all_uses_with(_pool(module, node, values))
            module.graph.erase_node(values)
        module.graph.erase_node(node)


def _pool(module: GraphModule, node: Node, values: Node) -> Node:
    source, call = node.all_input_nodes[0], module.graph.call_function
    before, after = shape_of(source), shape_of(values)
    dims = range(len(before) - _POOLED_DIMS[node.target], len(before))
    if len(dims) == 2 and all(before[dim] % after[dim] == 0 for dim in dims):
        size = [before[dim] // after[dim] for dim in dims]
        pooled = call(aten.max_pool2d.default, (source, size, size))
        if source.target is not ops.DEQUANTIZE:
            return pooled
        # The largest of some integers is one of them, so a kernel need not leave their grid.
        grid = tensor_grid(source)
        return call(ops.DEQUANTIZE, (call(ops.QUANTIZE, (pooled, *grid)), *grid))
    for dim in dims:
        windows = [(index * before[dim] // after[dim], -(-(index + 1) * before[dim] // after[dim]))
                   for index in range(after[dim])]
        largest = [call(aten.amax.default, (call(aten.slice.Tensor, (source, dim, *window)),
                                            [dim], True)) for window in windows]
        source = call(aten.cat.default, (largest, dim))
    return source
