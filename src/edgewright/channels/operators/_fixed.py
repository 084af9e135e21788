"""Calls through which nothing can be pruned."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgewright.channels._axes import BATCH, fixed, pin
from edgewright.channels.operators._label_tracker import Labels, LabelTracker
from edgewright.graph import concrete_size, tensor_of


def keep_operands(tracker: LabelTracker, node: Node, reason: str) -> Labels:
    """Pin whatever is tracked in the operands of a call; its results are not tracked."""
    for source in node.all_input_nodes:
        results = tracker.results(source)
        for part in results if isinstance(results, list) else [results or ()]:
            for dim in part:
                pin(tracker.couplings, dim, reason)
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        return [_untracked(part) for part in value]
    return None if tensor_of(node) is None else _untracked(value)


def _untracked(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return ()
    return tuple(fixed(concrete_size(size, BATCH)) for size in value.shape)
