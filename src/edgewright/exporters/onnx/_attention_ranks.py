"""Reshape attention over tensors of any rank to rank 4, as the ONNX translation requires."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.fx import Graph, GraphModule, Node

from edgewright.graph import argument, finalize_graph, ops, set_argument, shape_of

aten = torch.ops.aten
_RANK: Final = 4  # batch, heads, positions, channels
_MASK: Final = "attn_mask"


def reshape_attention_to_rank_4(module: GraphModule) -> None:
    """Reshape queries, keys and values of every attention to rank 4, in place; results are equal.

    Tensors of rank 3 get a head dimension of size 1; for ranks above 4 the first dimensions are
    flattened into one.
    """
    calls = [node for node in module.graph.nodes
             if node.target is ops.ATTENTION
             and len(shape_of(node)) != _RANK]
    for node in calls:
        _rewrite(module, node)
    if calls:
        finalize_graph(module)


def _rewrite(module: GraphModule, node: Node) -> None:
    graph, shape = module.graph, shape_of(node)
    extra = len(shape) - _RANK
    with graph.inserting_before(node):
        batch = graph.call_function(aten.sym_size.int, (node.args[0], 0))
        for name in ("query", "key", "value"):
            set_argument(node, name, _to_rank_4(graph, argument(node, name), extra))
        mask = argument(node, _MASK)
        if isinstance(mask, Node):
            set_argument(node, _MASK, _mask_to_rank_4(graph, mask, batch, shape))
    readers = list(node.users)
    with graph.inserting_after(node):
        result = (graph.call_function(aten.squeeze.dim, (node, 1)) if extra < 0 else
                  graph.call_function(aten.unflatten.int, (node, 0, [-1, *shape[1:extra + 1]])))
    for reader in readers:
        reader.replace_input_with(node, result)


def _to_rank_4(graph: Graph, value: Any, extra: int) -> Node:
    if extra < 0:
        found: Node = graph.call_function(aten.unsqueeze.default, (value, 1))
    else:
        found = graph.call_function(aten.flatten.using_ints, (value, 0, extra))
    return found


def _mask_to_rank_4(graph: Graph, mask: Node, batch: Node, shape: tuple[int, ...]) -> Node:
    """Reshape a mask (..., positions, positions) so that it broadcasts as before."""
    rank, extra = len(shape_of(mask)), len(shape) - _RANK
    if rank < min(_RANK, len(shape)):
        return mask
    if extra > 0:
        for _ in range(len(shape) - rank):
            mask = graph.call_function(aten.unsqueeze.default, (mask, 0))
        mask = graph.call_function(aten.expand.default, (
            mask, [batch, *shape[1:extra + 1], -1, -1, -1]))
    return _to_rank_4(graph, mask, extra)
