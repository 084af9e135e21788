"""How each operator passes channel labels on.

A rule is a function from the tracker and a node to the labels of the node's result. An operator
without a rule pins whatever is tracked in its inputs and names itself as the reason, so that an
unknown operator is never pruned wrongly.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch.fx import Node

from edgewright.program._labels import (
    DimLabels,
    LabelClasses,
    TensorLabels,
    reshape_labels,
)
from edgewright.program._nodes import argument, is_pointwise
from edgewright.program._shapes import shape_of, tensor_of

aten = torch.ops.aten
_BATCH: Final = 7919  # a prime in the batch's place keeps it apart from every other size

Labels = TensorLabels | list[TensorLabels] | None
Rule = Callable[["Tracker", Node], Labels]


class Tracker(Protocol):
    """What a rule may ask for; see `ChannelGroups`."""

    classes: LabelClasses

    def of(self, value: Any) -> TensorLabels:
        """Labels of a tensor node."""

    def contract(self, node: Node, argument: int, dim: int) -> None:
        """Note that ``node`` sums over that dimension of that argument."""


def propagate(tracker: Tracker, node: Node) -> Labels:
    """Labels of the result of one operator call."""
    rule = _RULES.get(_packet(node))
    if rule is None and is_pointwise(node.target):
        rule = _pointwise
    return (rule or _unknown)(tracker, node)


def _packet(node: Node) -> Any:
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return target
    return target._schema.name.removeprefix("aten::").rstrip("_")


def _untracked(node: Node) -> Labels:
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        return [(None,) * v.ndim if isinstance(v, torch.Tensor) else () for v in value]
    tensor = tensor_of(node)
    return None if tensor is None else (None,) * tensor.ndim


def _unknown(tracker: Tracker, node: Node) -> Labels:
    for source in node.all_input_nodes:
        if tensor_of(source) is not None:
            for labels in tracker.of(source):
                tracker.classes.pin(labels, f"{_packet(node)} ({node.name}) has no slicing rule")
    return _untracked(node)


def _pointwise(tracker: Tracker, node: Node) -> Labels:
    """Element-wise with broadcasting: what meets is tied together."""
    shape = shape_of(node, _BATCH)
    result: list[DimLabels] = [None] * len(shape)
    seen = [False] * len(shape)
    for source in node.all_input_nodes:
        if tensor_of(source) is None:
            continue
        labels, sizes = tracker.of(source), shape_of(source, _BATCH)
        for back in range(1, len(sizes) + 1):
            if sizes[-back] != shape[-back] or (shape[-back] == 1 and labels[-back] is None):
                tracker.classes.pin(labels[-back], f"{node.name} broadcasts it")
                continue
            dim = len(shape) - back
            result[dim] = labels[-back] if not seen[dim] else tracker.classes.match(
                result[dim], labels[-back], f"{node.name} ties it to a fixed dimension")
            seen[dim] = True
    return tuple(result)


def _same(tracker: Tracker, node: Node) -> Labels:
    return tracker.of(node.args[0])


def _convolution(tracker: Tracker, node: Node) -> Labels:
    """Weight (out, in / groups, ...): ties its inputs, and within groups all groups alike."""
    source, weight = tracker.of(node.args[0]), tracker.of(node.args[1])
    bias = argument(node, 2, "bias")
    groups = argument(node, 6, "groups", 1)
    for kernel in weight[2:]:
        tracker.classes.pin(kernel, "a kernel's extent")
    inputs, outputs = source[1], weight[0]
    if outputs is None:
        return _computed_weight(tracker, node)
    if bias is not None:
        tracker.classes.match(outputs, tracker.of(bias)[0], "bias")
    if groups == 1:
        tracker.classes.match(inputs, weight[1], f"{node.name} reads a fixed input")
        tracker.contract(node, 0, 1)
    else:
        _tie_groups(tracker, node, inputs, weight, groups)
    return (source[0], outputs, *(None for _ in source[2:]))


def _computed_weight(tracker: Tracker, node: Node) -> Labels:
    """A weight that no stored tensor's channels reach: everything the call reads stays."""
    for source in node.all_input_nodes:
        for labels in tracker.of(source):
            tracker.classes.pin(labels, f"{node.name} computes its weight")
    return _untracked(node)


def _tie_groups(tracker: Tracker, node: Node, inputs: DimLabels, weight: TensorLabels,
                groups: int) -> None:
    classes, outputs = tracker.classes, weight[0]
    assert outputs is not None  # noqa: S101
    if inputs is None:
        classes.pin(outputs, f"{node.name} reads a fixed input in groups")
        classes.pin(weight[1], f"{node.name} reads a fixed input in groups")
        return
    if groups == len(inputs):  # depthwise: a channel goes with all its filters
        classes.pin(weight[1], "a depthwise filter")
        for rank in range(len(outputs) // groups):
            classes.unite(inputs, outputs[rank::len(outputs) // groups])
        return
    by_group = inputs.reshape(groups, -1)
    produced = outputs.reshape(groups, -1)
    for index in range(groups):
        classes.match(by_group[index], weight[1], f"{node.name} groups")
        classes.unite(produced[0], produced[index])
    tracker.contract(node, 0, 1)


def _linear(tracker: Tracker, node: Node) -> Labels:
    source, weight = tracker.of(node.args[0]), tracker.of(node.args[1])
    bias = argument(node, 2, "bias")
    if bias is not None:
        tracker.classes.match(weight[0], tracker.of(bias)[0], "bias")
    tracker.classes.match(source[-1], weight[1], f"{node.name} reads a fixed input")
    tracker.contract(node, 0, len(source) - 1)
    return (*source[:-1], weight[0])


def _per_channel(tracker: Tracker, node: Node) -> Labels:
    labels = tracker.of(node.args[0])
    for parameter in node.args[1:5]:  # scale, shift and, in a batch norm, running statistics
        if isinstance(parameter, Node):
            tracker.classes.match(labels[1], tracker.of(parameter)[0],
                                  f"{node.name} normalises a fixed input")
    return labels


def _prelu(tracker: Tracker, node: Node) -> Labels:
    weight: Any = node.args[1]
    if shape_of(weight) == (1,):  # one slope for all channels
        tracker.classes.pin(tracker.of(weight)[0], "a slope for all channels")
        return tracker.of(node.args[0])
    return _per_channel(tracker, node)


def _embedding(tracker: Tracker, node: Node) -> Labels:
    weight = tracker.of(node.args[0])
    tracker.classes.pin(weight[0], "a vocabulary")
    return (*tracker.of(node.args[1]), weight[1])


def _cat(tracker: Tracker, node: Node) -> Labels:
    sources: Any = node.args[0]
    labels = [tracker.of(source) for source in sources]
    rank = len(labels[0])
    dim = argument(node, 1, "dim", 0) % rank
    result = list(labels[0])
    for other in labels[1:]:
        for axis in range(rank):
            if axis != dim:
                result[axis] = tracker.classes.match(result[axis], other[axis],
                                                     f"{node.name} joins fixed inputs")
    parts = [part[dim] for part in labels]
    result[dim] = None
    if any(part is not None for part in parts):
        result[dim] = np.concatenate([_tracked(tracker, part, shape_of(source)[dim], node)
                                      for part, source in zip(parts, sources, strict=True)])
    return tuple(result)


def _tracked(tracker: Tracker, labels: DimLabels, size: int, node: Node) -> Any:
    """Labels as they are, or pinned ones for a part that cannot be pruned."""
    if labels is None:
        labels = tracker.classes.fresh(size)
        tracker.classes.pin(labels, f"{node.name} joins it to a fixed input")
    return labels


def _slice(tracker: Tracker, node: Node) -> Labels:
    labels = list(tracker.of(node.args[0]))
    dim = argument(node, 1, "dim", 0) % len(labels)
    start, end = argument(node, 2, "start"), argument(node, 3, "end")
    step = argument(node, 4, "step", 1)
    tracked = labels[dim]
    if tracked is None:
        return tuple(labels)
    if step != 1:
        tracker.classes.pin(tracked, f"{node.name} takes every {step}th")
    labels[dim] = tracked[slice(start, end, step)]
    return tuple(labels)


def _select(tracker: Tracker, node: Node) -> Labels:
    labels = tracker.of(node.args[0])
    dim = argument(node, 1, "dim") % len(labels)
    tracker.classes.pin(labels[dim], f"{node.name} selects one of it")
    return labels[:dim] + labels[dim + 1:]


def _size(tracker: Tracker, node: Node) -> Labels:
    labels = tracker.of(node.args[0])
    dim = argument(node, 1, "dim") % len(labels)
    tracker.classes.pin(labels[dim], f"{node.name} computes with its size")
    return None


def _split(tracker: Tracker, node: Node) -> Labels:
    labels = tracker.of(node.args[0])
    dim = argument(node, 2, "dim", 0) % len(labels)
    results: list[TensorLabels] = []
    start = 0
    for part in node.meta["val"]:
        size = part.shape[dim]
        tracked = labels[dim]
        piece = None if tracked is None else tracked[start:start + size]
        results.append((*labels[:dim], piece, *labels[dim + 1:]))
        start += size
    return results


def _item(tracker: Tracker, node: Node) -> Labels:
    source: Any = node.args[0]
    labels = tracker.of(source)
    if not isinstance(labels, list):
        return _untracked(node)
    chosen: TensorLabels = labels[node.args[1]]
    return chosen


def _pad(tracker: Tracker, node: Node) -> Labels:
    """Padding adds indices no parameter stands behind; labels of their own let them go too."""
    labels = list(tracker.of(node.args[0]))
    amounts: Any = node.args[1]
    mode = argument(node, 2, "mode", "constant")
    for back in range(len(amounts) // 2):
        dim = len(labels) - 1 - back
        before, after = amounts[2 * back], amounts[2 * back + 1]
        tracked = labels[dim]
        if tracked is None or (before == 0 and after == 0):
            continue
        if before < 0 or after < 0 or (isinstance(mode, str) and mode != "constant"):
            tracker.classes.pin(tracked, f"{node.name} pads it by {mode}")
            labels[dim] = None
            continue
        fresh = tracker.classes.fresh
        labels[dim] = np.concatenate([fresh(before), tracked, fresh(after)])
    return tuple(labels)


def _permute(tracker: Tracker, node: Node) -> Labels:
    labels = tracker.of(node.args[0])
    order: Any = node.args[1]
    return tuple(labels[dim] for dim in order)


def _transpose(tracker: Tracker, node: Node) -> Labels:
    labels = list(tracker.of(node.args[0]))
    if len(node.args) == 1:
        return tuple(reversed(labels))
    first, second = argument(node, 1) % len(labels), argument(node, 2) % len(labels)
    labels[first], labels[second] = labels[second], labels[first]
    return tuple(labels)


def _reshape(tracker: Tracker, node: Node) -> Labels:
    source: Any = node.args[0]
    return reshape_labels(tracker.classes, tracker.of(source), shape_of(source, _BATCH),
                          shape_of(node, _BATCH), f"{node.name} splits or merges it", _BATCH)


def _reduce(tracker: Tracker, node: Node) -> Labels:
    """A reduction over tracked dimensions would change with what is removed: they stay."""
    labels = tracker.of(node.args[0])
    dims = _dims(argument(node, 1, "dim"), len(labels))
    for dim in dims:
        tracker.classes.pin(labels[dim], f"{node.name} reduces over it")
    if tensor_of(node) is not None and len(shape_of(node)) == len(labels):
        return tuple(None if i in dims else part for i, part in enumerate(labels))
    return tuple(part for i, part in enumerate(labels) if i not in dims)


def _normalize_over(tracker: Tracker, node: Node) -> Labels:
    """Softmax, layer norm and their like read a whole dimension: it stays."""
    labels = tracker.of(node.args[0])
    argument: Any = node.args[1]
    rank = len(labels)
    is_shape = isinstance(argument, Sequence)
    dims = range(rank - len(argument), rank) if is_shape else _dims(argument, rank)
    for dim in dims:
        tracker.classes.pin(labels[dim], f"{node.name} normalises over it")
    _pin_parameters(tracker, node)
    return labels


def _group_norm(tracker: Tracker, node: Node) -> Labels:
    labels = tracker.of(node.args[0])
    tracker.classes.pin(labels[1], f"{node.name} normalises over groups of it")
    _pin_parameters(tracker, node)
    return labels


def _pin_parameters(tracker: Tracker, node: Node) -> None:
    for parameter in node.args[1:]:
        if isinstance(parameter, Node) and tensor_of(parameter) is not None:
            for labels in tracker.of(parameter):
                tracker.classes.pin(labels, f"it scales {node.name}")


def _pool(tracker: Tracker, node: Node) -> Labels:
    labels = tracker.of(node.args[0])
    spatial = len(labels) - 2
    for dim in labels[2:]:
        tracker.classes.pin(dim, f"{node.name} pools over it")
    return (*labels[:2], *(None for _ in range(spatial)))


def _dims(argument: Any, rank: int) -> set[int]:
    if argument is None:
        return set(range(rank))
    values = argument if isinstance(argument, Sequence) else [argument]
    return {dim % rank for dim in values} or set(range(rank))


_RULES: Final[dict[Any, Rule]] = {
    operator.getitem: _item,
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], _convolution),
    "linear": _linear,
    "batch_norm": _per_channel,
    "prelu": _prelu,
    "embedding": _embedding,
    "cat": _cat,
    "slice": _slice,
    "select": _select,
    "sym_size": _size,
    **dict.fromkeys(["split", "split_with_sizes", "chunk"], _split),
    **dict.fromkeys(["pad", "constant_pad_nd"], _pad),
    "permute": _permute,
    **dict.fromkeys(["transpose", "t"], _transpose),
    **dict.fromkeys(["view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze",
                     "_unsafe_view"], _reshape),
    **dict.fromkeys(["mean", "sum", "amax", "amin"], _reduce),
    **dict.fromkeys(["softmax", "log_softmax", "layer_norm"], _normalize_over),
    "group_norm": _group_norm,
    **dict.fromkeys(
        [f"{kind}_pool{rank}d" for kind in ("avg", "max", "adaptive_avg") for rank in (1, 2, 3)]
        + ["upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"], _pool),
    **dict.fromkeys(["dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone",
                     "detach", "alias", "to", "_to_copy"], _same),
}
