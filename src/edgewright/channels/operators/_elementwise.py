"""Element-wise operators with broadcasting, and operators that keep every index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from torch.fx import Node
from torch.utils import _pytree as pytree

from edgewright.channels._axes import Dim, Dims, match
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator
from edgewright.graph import argument, tensor_of


def pointwise(tracker: LabelTracker, node: Node) -> Labels:
    """Dimensions that are aligned are tied together."""
    sources = [source for source in node.all_input_nodes if tensor_of(source) is not None]
    return broadcast(tracker, (tracker.dims(source) for source in sources),
                     f"{node.name} ties it to a fixed dimension")


def broadcast(tracker: LabelTracker, operands: Iterable[Dims], reason: str) -> Dims:
    """The broadcast dimensions of operands, aligned at the last dimension."""
    result: list[Dim] = []
    for operand in operands:
        for back, dim in enumerate(reversed(operand)):
            if back == len(result):
                result.append(dim)
            elif result[back] == ():
                result[back] = dim
            elif dim != ():
                result[back] = match(tracker.couplings, result[back], dim, reason)
    return tuple(reversed(result))


def same(tracker: LabelTracker, node: Node) -> Labels:
    """The result has the dimensions of the first operand."""
    return tracker.dims(node.args[0])


def _prelu(tracker: LabelTracker, node: Node) -> Labels:
    dims = tracker.dims(node.args[0])
    slopes = tracker.dims(argument(node, "weight"))
    if slopes and slopes[0] != () and len(dims) > 1:
        match(tracker.couplings, dims[1], slopes[0], f"{node.name} has a slope for each")
    return dims


def _check(tracker: LabelTracker, node: Node) -> Labels:
    """An assertion about a tensor; if it checks sizes, these cannot be pruned."""
    if argument(node, "size") is not None or argument(node, "stride") is not None:
        for source in node.all_input_nodes:
            for dim in range(len(tracker.dims(source))):
                tracker.pin(source, dim, f"{node.name} checks its size")
    return None


def _fill_like(tracker: LabelTracker, node: Node) -> Labels:
    sources: Any = pytree.tree_leaves(node.args[0])
    return tracker.dims(sources[0])


OPERATORS: Final = {
    **dict.fromkeys(
        ["dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "contiguous",
         "clone", "detach", "alias", "to", "_to_copy", "type_as", "lift_fresh", "lift_fresh_copy",
         "zero", "fill", "bernoulli", "native_dropout", "rrelu", "positive", "conj",
         "resolve_conj", "resolve_neg"], Operator(same)),
    **dict.fromkeys(
        [f"{kind}_like" for kind in ("zeros", "ones", "full", "empty", "rand", "randn")],
        Operator(_fill_like)),
    **dict.fromkeys(["copy", "where", "lerp", "addcmul", "addcdiv"], Operator(pointwise)),
    "prelu": Operator(_prelu),
    "_assert_tensor_metadata": Operator(_check),
}
