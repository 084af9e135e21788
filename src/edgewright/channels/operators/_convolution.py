"""Convolutions: plain, depthwise, grouped and transposed, of any rank."""

from __future__ import annotations

from typing import Any, Final

from torch.fx import Node

from edgewright.channels._axes import Dim, Dims, fixed, join, match, reshape, size_of
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator, Removal
from edgewright.graph import argument, ops, set_argument, shape_of


def _convolution(tracker: LabelTracker, node: Node) -> Labels:
    """Weight (out, in / groups, ...), or (in, out / groups, ...) of a transposed one.

    In groups, both inputs and outputs are products: groups times channels of a group. The groups
    are the same on both sides, and all groups lose the same channels.
    """
    source: Any = node.args[0]
    weight = argument(node, "weight")
    kernel = tracker.dims(weight)
    for dim in range(2, len(kernel)):
        tracker.pin(weight, dim, "a kernel's extent")
    dims = tracker.dims(source)
    place = len(dims) - len(kernel) + 1  # the channel, with or without a batch before it
    for dim in range(place + 1, len(dims)):
        tracker.pin(source, dim, f"{node.name} slides over it")
    outputs = (_transposed if ops.is_transposed(node) else _direct)(
        tracker, node, dims[place], kernel)
    bias = argument(node, "bias")
    if bias is not None:
        match(tracker.couplings, outputs, tracker.dims(bias)[0], "bias")
    if size_of(kernel[1]) > 1 or ops.groups_of(node) == 1:  # a depthwise one sums nothing
        tracker.contract(node, source, place)
    sizes = shape_of(node)[place + 1:]
    return (*dims[:place], outputs, *(fixed(size) for size in sizes))


def _direct(tracker: LabelTracker, node: Node, inputs: Dim, weight: Dims) -> Dim:
    couplings, groups = tracker.couplings, ops.groups_of(node)
    reason = f"{node.name} reads a fixed input"
    if groups == 1:
        match(couplings, inputs, weight[1], reason)
        return weight[0]
    reason = f"{node.name} groups it"
    group, inside = _groups(tracker, inputs, groups, reason)
    group_out, _ = _groups(tracker, weight[0], groups, reason)
    match(couplings, group, group_out, f"{node.name} reads a fixed input in groups")
    match(couplings, inside, weight[1], f"{node.name} reads a fixed input in groups")
    tracker.record_dim(node, group_out)
    return weight[0]


def _transposed(tracker: LabelTracker, node: Node, inputs: Dim, weight: Dims) -> Dim:
    groups = ops.groups_of(node)
    match(tracker.couplings, inputs, weight[0], f"{node.name} reads a fixed input")
    if groups == 1:
        return weight[1]
    group, _ = _groups(tracker, weight[0], groups, f"{node.name} groups it")
    tracker.record_dim(node, group)
    return join((*group, *weight[1]))


def _groups(tracker: LabelTracker, dim: Dim, groups: int, reason: str) -> tuple[Dim, Dim]:
    parts = reshape(tracker.couplings, (dim,), (groups, size_of(dim) // groups), reason)
    return parts[0], parts[1]


def _resize(node: Node, twin: Node, removal: Removal) -> None:
    if ops.groups_of(node) > 1:
        set_argument(twin, "groups", removal.recorded_size(node))


OPERATORS: Final = dict.fromkeys(
    ["convolution", *ops.names(ops.CONVOLUTIONS)],
    Operator(_convolution, _resize))
