"""The choice between branches by an index."""

from __future__ import annotations

from typing import Any, Final

from torch.fx import Node

from edgewright.channels.operators._elementwise import broadcast
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator
from edgewright.graph import argument, ops, shape_of


def _route(tracker: LabelTracker, node: Node) -> Labels:
    """The outputs of the branches are tied together; layers that only the index needs are pinned.

    No criterion sees what the channels of such layers are worth: the choice has no gradient.
    """
    for decider in _deciders(argument(node, "index")):
        if decider.target in ops.LAYERS:
            for dim in range(len(shape_of(decider))):
                tracker.pin(decider, dim, f"it decides {node.name}")
    outputs: Any = argument(node, "outputs")
    return broadcast(tracker, (tracker.dims(output) for output in outputs),
                     f"{node.name} ties it to a fixed dimension")


def _deciders(index: Node) -> list[Node]:
    """The calls whose results nothing but an index needs, from the index on backwards."""
    found, pending = {index}, [index]
    while pending:
        for source in pending.pop().all_input_nodes:
            if source.op == "call_function" and source not in found and all(
                    user in found or _only_decides(user, source) or not user.users
                    for user in source.users):
                found.add(source)
                pending.append(source)
    return list(found)


def _only_decides(user: Node, source: Node) -> bool:
    """Whether a call is a route that reads a value as its index."""
    return user.target is ops.ROUTE and source not in argument(user, "outputs")


OPERATORS: Final = {"edgewright::route": Operator(_route)}
