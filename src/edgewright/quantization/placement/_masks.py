"""Detect attention masks, and scores that are only compared with each other.

A mask contains -inf or the largest number of the type; on a grid with such a range all other values
become 0. Masks are recognized by the graph and not by their values: they are the same for every
sample or come from comparisons, or only a softmax or a similar operator reads them, which runtimes
compute in floating point anyway.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.fx import Node

from edgewright.graph import argument, is_pointwise, ops, read_tensor

aten = torch.ops.aten

# Softmax-like operators and selections: values far below the maximum do not affect the result.
_SELECTIONS: Final = ops.SOFTMAXES | frozenset({
    aten.logsumexp.default, aten.exp.default, aten.sigmoid.default, aten.amax.default,
    aten.max.dim, aten.max.default, aten.argmax.default, aten.topk.default, aten.sort.default,
})
_ARITHMETIC: Final = ops.ADDITIONS | ops.MULTIPLICATIONS | {
    aten.mul.Scalar, aten.add.Scalar, aten.sub.Tensor,
    aten.sub_.Tensor, aten.sub.Scalar, aten.rsub.Tensor, aten.rsub.Scalar, aten.div.Tensor,
    aten.div_.Tensor, aten.div.Scalar, aten.neg.default, aten.where.self, aten.where.ScalarOther,
    aten.where.ScalarSelf, aten.where.Scalar, aten.masked_fill.Scalar, aten.masked_fill.Tensor,
    aten.masked_fill_.Scalar, aten.masked_fill_.Tensor, aten.maximum.default,
    aten.minimum.default, aten.clamp.default,
}
# Operators that move values without computing and are not pointwise.
_VIEWS: Final = (
    ops.RESHAPES | ops.UNFLATTENINGS | ops.PERMUTATIONS | ops.SLICES | ops.COPIES | ops.DROPOUTS
    | ops.CASTS | {aten.expand.default, aten.cat.default, aten.repeat.default, aten.tril.default,
                   aten.triu.default, aten.index.Tensor, ops.ITEM})


def is_mask_or_score(node: Node) -> bool:
    """Whether an operation on two tensors computes or applies a mask, or computes scores."""
    return _is_only_read_by_selections(node) or (
        node.target in ops.ADDITIONS and any(_is_data_independent(arg) for arg in node.args[:2]))


def _is_only_read_by_selections(value: Node) -> bool:
    """Whether only softmax-like operators read a value, possibly after more arithmetic."""
    pending, seen, is_chosen = [value], {value}, False
    while pending:
        source = pending.pop()
        for user in source.users:
            if user.op == "output":
                continue
            if user.target in _SELECTIONS or _is_mask_of(user, source):
                is_chosen = True
            elif user.target not in _ARITHMETIC | _VIEWS:
                return False
            elif user not in seen:
                seen.add(user)
                pending.append(user)
    return is_chosen


def _is_mask_of(user: Node, source: Node) -> bool:
    return (user.target is ops.ATTENTION and argument(user, "attn_mask") is source
            and all(argument(user, name) is not source for name in ("query", "key", "value")))


def _is_data_independent(value: Any) -> bool:
    """Whether a tensor depends on neither data nor weights, or only through comparisons."""
    pending, seen = [value], {value}
    while pending:
        node = pending.pop()
        if not isinstance(node, Node) or _is_data_or_parameter(node):
            return False
        if _is_not_floating(node) or not node.all_input_nodes:
            continue
        if not (node.target in _VIEWS or is_pointwise(node.target)):
            return False
        pending += [source for source in node.all_input_nodes if source not in seen]
        seen.update(node.all_input_nodes)
    return True


def _is_data_or_parameter(node: Node) -> bool:
    """Whether a node is a floating-point input of the model or a parameter."""
    if node.op == "get_attr":
        return isinstance(read_tensor(node), nn.Parameter)
    return node.op == "placeholder" and not _is_not_floating(node)


def _is_not_floating(node: Node) -> bool:
    """Whether a value is boolean or integer, such as a comparison, a flag or a position."""
    value = node.meta.get("val")
    return not isinstance(value, torch.Tensor) or not value.is_floating_point()
