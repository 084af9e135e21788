"""Sums of products: linear layers, matrix products, einsum, attention."""

from __future__ import annotations

import math
from typing import Any, Final

from torch.fx import Node

from edgewright.channels._axes import Dim, Dims, match, pin, reshape, size_of
from edgewright.channels.operators._elementwise import broadcast
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator, Removal
from edgewright.graph import argument, ops, parse_einsum, set_argument, shape_of, tensor_of


def _linear(tracker: LabelTracker, node: Node) -> Labels:
    source, weight = tracker.dims(node.args[0]), tracker.dims(argument(node, "weight"))
    match(tracker.couplings, source[-1], weight[-1], f"{node.name} reads a fixed input")
    tracker.contract(node, node.args[0], len(source) - 1)
    bias = argument(node, "bias")
    if bias is not None and len(weight) > 1:
        match(tracker.couplings, weight[0], tracker.dims(bias)[0], "bias")
    return (*source[:-1], *weight[:-1])


def _matmul(tracker: LabelTracker, node: Node) -> Labels:
    return _multiply(tracker, node, *ops.factors(node))


def _multiply(tracker: LabelTracker, node: Node, left: Any, right: Any) -> Dims:
    """(..., n, k) by (..., k, m); operands of one dimension as torch.matmul reads them."""
    first, second = tracker.dims(left), tracker.dims(right)
    row = max(len(second) - 2, 0)
    match(tracker.couplings, first[-1], second[row], f"{node.name} sums over a fixed dimension")
    tracker.contract(node, left, len(first) - 1)
    tracker.contract(node, right, row)
    batch = broadcast(tracker, (first[:-2], second[:-2]), f"{node.name} pairs fixed matrices")
    return (*batch, *first[-2:-1], *(second[-1:] if len(second) > 1 else ()))


def _add_product(tracker: LabelTracker, node: Node) -> Labels:
    product = _multiply(tracker, node, *ops.factors(node))
    return broadcast(tracker, (product, tracker.dims(node.args[0])),
                     f"{node.name} adds a fixed dimension")


def _bilinear(tracker: LabelTracker, node: Node) -> Labels:
    """(..., i) and (..., j) by a weight (out, i, j)."""
    first, second, weight = (tracker.dims(argument(node, name))
                             for name in ("input1", "input2", "weight"))
    reason = f"{node.name} reads a fixed input"
    match(tracker.couplings, first[-1], weight[1], reason)
    match(tracker.couplings, second[-1], weight[2], reason)
    tracker.contract(node, node.args[0], len(first) - 1)
    tracker.contract(node, argument(node, "input2"), len(second) - 1)
    bias = argument(node, "bias")
    if bias is not None:
        match(tracker.couplings, weight[0], tracker.dims(bias)[0], "bias")
    return (*broadcast(tracker, (first[:-1], second[:-1]), reason), weight[0])


def _einsum(tracker: LabelTracker, node: Node) -> Labels:
    equation, operands = argument(node, "equation"), argument(node, "tensors")
    ranks = [len(shape_of(operand)) for operand in operands]
    inputs, output = parse_einsum(str(equation), ranks)
    reason = f"{node.name} ties it to a fixed dimension"
    found: dict[str, Dim] = {}
    for letters, operand in zip(inputs, operands, strict=True):
        for place, (letter, dim) in enumerate(zip(letters, tracker.dims(operand), strict=True)):
            if letters.count(letter) > 1:
                pin(tracker.couplings, dim, f"{node.name} takes a diagonal of it")
            found[letter] = broadcast(tracker, ((found.get(letter, ()),), (dim,)), reason)[0]
            if letter not in output:
                tracker.contract(node, operand, place)
    return tuple(found[letter] for letter in output)


def _attention(tracker: LabelTracker, node: Node) -> Labels:
    """Fused attention: query (..., L, E), key (..., S, E), value (..., S, V) to (..., L, V)."""
    operands = [argument(node, name) for name in ("query", "key", "value")]
    query, key, value = map(tracker.dims, operands)
    couplings = tracker.couplings
    for operand in operands[1:]:
        tracker.pin(operand, len(tracker.dims(operand)) - 2, f"{node.name} attends over it")
    match(couplings, query[-1], key[-1], f"{node.name} compares it with a fixed key")
    tracker.contract(node, operands[0], len(query) - 1)
    tracker.contract(node, operands[1], len(key) - 1)
    mask = argument(node, "attn_mask")
    reason = f"{node.name} pairs fixed heads"
    heads = broadcast(tracker, (key[:-2], value[:-2]), reason)
    heads = _query_heads(tracker, query[:-2], heads, reason)
    if mask is not None and tensor_of(mask) is not None:
        masked = tracker.dims(mask)
        heads = broadcast(tracker, (heads, masked[:-2]), reason)
        broadcast(tracker, (query[-2:-1], masked[-2:-1]), reason)
        broadcast(tracker, (key[-2:-1], masked[-1:]), f"{node.name} attends over it")
    return (*heads, query[-2], value[-1])


def _query_heads(tracker: LabelTracker, query: Dims, shared: Dims, reason: str) -> Dims:
    """Heads of the query; in grouped-query attention several of them share a key head."""
    if query and shared and size_of(query[-1]) > size_of(shared[-1]) > 1:
        count = size_of(shared[-1])
        owner, _ = reshape(tracker.couplings, query[-1:],
                           (count, size_of(query[-1]) // count), reason)
        match(tracker.couplings, owner, shared[-1], reason)
        shared = (*shared[:-1], query[-1])
    return broadcast(tracker, (query, shared), reason)


def _resize_attention(node: Node, twin: Node, removal: Removal) -> None:
    """Keep the scale of the original width; the default would use the new width."""
    query = argument(node, "query")
    width = shape_of(query)[-1]
    last = len(shape_of(query)) - 1
    if argument(node, "scale") is None and removal.kept_size(query, last) != width:
        set_argument(twin, "scale", 1 / math.sqrt(width))


OPERATORS: Final = {
    "linear": Operator(_linear),
    **dict.fromkeys([*ops.names(ops.MATRIX_PRODUCTS), "mv", "dot"], Operator(_matmul)),
    **dict.fromkeys([*ops.names(ops.ADDED_PRODUCTS), "addmv"], Operator(_add_product)),
    "bilinear": Operator(_bilinear),
    "einsum": Operator(_einsum),
    "scaled_dot_product_attention": Operator(_attention, _resize_attention),
}
