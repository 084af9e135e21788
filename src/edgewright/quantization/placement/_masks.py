"""Sums that say what counts: masks, and scores that are only compared with each other.

A mask holds -inf, or a number as large as the type has; on the grid of such a range all else is 0.
What is computed from it is decided by the graph, not by its size: numbers that are the same for
every sample or stem from comparisons, and numbers that only a softmax or its like reads, which
runtimes compute in floating point anyway.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.fx import Node

from edgewright.graph import argument, is_pointwise, ops, read_tensor

aten = torch.ops.aten

# They give weights, or choose: what is far below the rest has no part in the result.
_CHOOSERS: Final = ops.SOFTMAXES | frozenset({
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
# What only moves numbers, and is not point-wise.
_VIEWS: Final = (
    ops.RESHAPES | ops.UNFLATTENINGS | ops.PERMUTATIONS | ops.SLICES | ops.COPIES | ops.DROPOUTS
    | ops.CASTS | {aten.expand.default, aten.cat.default, aten.repeat.default, aten.tril.default,
                   aten.triu.default, aten.index.Tensor, ops.ITEM})


def masks(node: Node) -> bool:
    """Whether a sum or a product of two tensors makes a mask, applies one, or scores a choice."""
    return _is_only_chosen_by(node) or (
        node.target in ops.ADDITIONS and any(_is_given(arg) for arg in node.args[:2]))


def _is_only_chosen_by(value: Node) -> bool:
    """Whether all that reads a value is a softmax or its like, at most after more arithmetic."""
    pending, seen, is_chosen = [value], {value}, False
    while pending:
        source = pending.pop()
        for user in source.users:
            if user.op == "output":
                continue
            if user.target in _CHOOSERS or _is_mask_of(user, source):
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


def _is_given(value: Any) -> bool:
    """Whether a tensor is known beforehand, or says yes or no: no data and no weight are in it."""
    pending, seen = [value], {value}
    while pending:
        node = pending.pop()
        if not isinstance(node, Node) or _is_real_input(node):
            return False
        if _says_yes_or_no(node) or not node.all_input_nodes:
            continue
        if not (node.target in _VIEWS or is_pointwise(node.target)):
            return False
        pending += [source for source in node.all_input_nodes if source not in seen]
        seen.update(node.all_input_nodes)
    return True


def _is_real_input(node: Node) -> bool:
    """Whether numbers come in here that differ between samples, or are learned."""
    if node.op == "get_attr":
        return isinstance(read_tensor(node), nn.Parameter)
    return node.op == "placeholder" and not _says_yes_or_no(node)


def _says_yes_or_no(node: Node) -> bool:
    """Whether a value has no fractions, as comparisons, flags and positions have none."""
    value = node.meta.get("val")
    return not isinstance(value, torch.Tensor) or not value.is_floating_point()
