"""How labels propagate through each operator, and how its size arguments are rewritten.

An operator that has no entry pins whatever is tracked in its inputs and names itself as the
reason, so that an unknown operator is never pruned wrongly.
"""

from __future__ import annotations

from typing import Any, Final

from torch.fx import Node

from edgewright.channels.operators import (
    _convolution,
    _elementwise,
    _joins,
    _layout,
    _lookup,
    _products,
    _recurrence,
    _reductions,
    _routes,
)
from edgewright.channels.operators._fixed import keep_operands
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator, Removal
from edgewright.graph import argument, is_pointwise, op_name

_TABLE: Final[dict[str, Operator]] = {
    **_convolution.OPERATORS,
    **_elementwise.OPERATORS,
    **_joins.OPERATORS,
    **_layout.OPERATORS,
    **_lookup.OPERATORS,
    **_products.OPERATORS,
    **_recurrence.OPERATORS,
    **_reductions.OPERATORS,
    **_routes.OPERATORS,
}


def propagate(tracker: LabelTracker, node: Node) -> Labels:
    """Compute the labels of the result of one operator call."""
    found = _TABLE.get(op_name(node))
    if found is not None:
        return found.rule(tracker, node)
    if is_pointwise(node.target):
        return _elementwise.pointwise(tracker, node)
    if op_name(node) == "sym_size":
        return _size(tracker, node)
    return keep_operands(tracker, node, f"{op_name(node)} ({node.name}) has no slicing rule")


def resize(node: Node, twin: Node, removal: Removal) -> None:
    """Rewrite the size arguments of an operator call, in place."""
    found = _TABLE.get(op_name(node))
    if found is not None and found.resize is not None:
        found.resize(node, twin, removal)


def _size(tracker: LabelTracker, node: Node) -> Labels:
    source: Any = node.args[0]
    dim = argument(node, "dim") % len(tracker.dims(source))
    tracker.pin(source, dim, f"{node.name} computes with its size")
    return None
