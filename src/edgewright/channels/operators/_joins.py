"""Joining and splitting along a dimension: concat, stack, split, slice, select, pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.fx import Node

from edgewright.channels._axes import Dim, fixed, has_batch, match, pin, reshape, size_of, tracked
from edgewright.channels._couplings import LabelArray
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator, Removal
from edgewright.graph import argument, set_argument, shape_of

aten = torch.ops.aten


def _cat(tracker: LabelTracker, node: Node) -> Labels:
    sources: Any = node.args[0]
    parts = [tracker.dims(source) for source in sources]
    rank = len(parts[0])
    dim = argument(node, "dim") % rank
    result = list(parts[0])
    for other in parts[1:]:
        for axis in range(rank):
            if axis != dim:
                result[axis] = match(tracker.couplings, result[axis], other[axis],
                                     f"{node.name} joins fixed inputs")
    result[dim] = _joined(tracker, node, sources, [part[dim] for part in parts], dim)
    return tuple(result)


def _joined(tracker: LabelTracker, node: Node, sources: Sequence[Node], parts: list[Dim],
            dim: int) -> Dim:
    total = sum(size_of(part) for part in parts)
    if any(has_batch(part) for part in parts):
        for part in parts:
            pin(tracker.couplings, part, f"{node.name} joins batches")
        return fixed(total)
    labels = [tracker.flat(source, dim) for source in sources]
    if all(part is None for part in labels):
        return fixed(total)
    return tracked(np.concatenate(
        [_fixed_labels(tracker, node, size_of(part)) if known is None else known
         for part, known in zip(parts, labels, strict=True)]))


def _fixed_labels(tracker: LabelTracker, node: Node, size: int) -> LabelArray:
    labels = tracker.couplings.new_labels(size)
    tracker.couplings.pin(labels, f"{node.name} joins it to a fixed input")
    return labels


def _stack(tracker: LabelTracker, node: Node) -> Labels:
    sources: Any = node.args[0]
    parts = [tracker.dims(source) for source in sources]
    result = parts[0]
    for other in parts[1:]:
        result = tuple(match(tracker.couplings, a, b, f"{node.name} joins fixed inputs")
                       for a, b in zip(result, other, strict=True))
    dim = argument(node, "dim") % (len(result) + 1)
    return (*result[:dim], fixed(len(sources)), *result[dim:])


def _slice(tracker: LabelTracker, node: Node) -> Labels:
    dims = list(tracker.dims(node.args[0]))
    dim = argument(node, "dim") % len(dims)
    start, end, step = _bounds(node, size_of(dims[dim]))
    size = len(range(start, end, step))
    if size == size_of(dims[dim]):
        return tuple(dims)
    labels = None if has_batch(dims[dim]) else tracker.flat(node.args[0], dim)
    if labels is None:
        dims[dim] = pin(tracker.couplings, dims[dim], f"{node.name} slices the batch")
        dims[dim] = fixed(size)
    elif step == 1:
        dims[dim] = _part(tracker, node, labels[start:end])
    else:
        dims[dim] = _strided(tracker, node, labels, start, end, step)
    return tuple(dims)


def _part(tracker: LabelTracker, node: Node, labels: LabelArray) -> Dim:
    """A part of a dimension; a single index is pinned, so that something is left."""
    if len(labels) == 1:
        tracker.couplings.pin(labels, f"{node.name} takes it alone")
    return tracked(labels)


def _bounds(node: Node, size: int) -> tuple[int, int, int]:
    bounds = slice(*(argument(node, name) for name in ("start", "end", "step")))
    return bounds.indices(size) if _is_static(bounds) else (0, size, 1)


def _is_static(bounds: slice) -> bool:
    return all(bound is None or isinstance(bound, int) for bound in (bounds.start, bounds.stop))


def _strided(tracker: LabelTracker, node: Node, labels: LabelArray, start: int, end: int,
             step: int) -> Dim:
    """Every ``step``-th index: runs of ``step`` indices are kept or removed together."""
    couplings, size = tracker.couplings, len(labels)
    if size % step or start >= step or end < size - step + start + 1:
        couplings.pin(labels, f"{node.name} takes every {step}th")
        return fixed(len(range(start, end, step)))
    block, inside = reshape(couplings, ((labels,),), (size // step, step), "")
    pin(couplings, inside, f"{node.name} takes every {step}th")
    return block


def _resize_slice(node: Node, twin: Node, removal: Removal) -> None:
    source = node.args[0]
    rank = len(shape_of(node.all_input_nodes[0]))
    dim = argument(node, "dim") % rank
    if not removal.removes(source, dim):
        return
    kept = removal.kept(source, dim)
    start, end, step = _bounds(node, len(kept))
    if step != 1:
        set_argument(twin, "end", int(kept.sum()))
        return
    first = int(kept[:start].sum())
    twin.args = (twin.args[0], dim, first, first + int(kept[start:end].sum()))
    twin.kwargs = {}


def _narrow(tracker: LabelTracker, node: Node) -> Labels:
    dims = list(tracker.dims(node.args[0]))
    dim = argument(node, "dim") % len(dims)
    start, length = argument(node, "start"), argument(node, "length")
    labels = tracker.flat(node.args[0], dim)
    static = isinstance(start, int) and isinstance(length, int)
    if labels is None or not static:
        tracker.pin(node.args[0], dim, f"{node.name} takes a part of it")
        dims[dim] = fixed(length if isinstance(length, int) else size_of(dims[dim]))
    else:
        start %= len(labels)
        dims[dim] = _part(tracker, node, labels[start:start + length])
    return tuple(dims)


def _resize_narrow(node: Node, twin: Node, removal: Removal) -> None:
    dim = argument(node, "dim") % len(shape_of(node.all_input_nodes[0]))
    if removal.removes(node.args[0], dim):
        kept = removal.kept(node.args[0], dim)
        start, length = argument(node, "start") % len(kept), argument(node, "length")
        twin.args = (twin.args[0], dim, int(kept[:start].sum()),
                     int(kept[start:start + length].sum()))


def _select(tracker: LabelTracker, node: Node) -> Labels:
    """One index of a dimension: it is pinned, the others can be removed."""
    dims = tracker.dims(node.args[0])
    dim = argument(node, "dim") % len(dims)
    index = argument(node, "index")
    if isinstance(index, int):
        labels = tracker.flat(node.args[0], dim)
        if labels is not None:
            index %= len(labels)
            tracker.couplings.pin(labels[index:index + 1], f"{node.name} selects it")
    else:
        tracker.pin(node.args[0], dim, f"{node.name} selects one of it")
    dims = tracker.dims(node.args[0])
    return dims[:dim] + dims[dim + 1:]


def _resize_select(node: Node, twin: Node, removal: Removal) -> None:
    dim = argument(node, "dim") % len(shape_of(node.all_input_nodes[0]))
    index = argument(node, "index")
    if isinstance(index, int) and removal.removes(node.args[0], dim):
        kept = removal.kept(node.args[0], dim)
        set_argument(twin, "index", int(kept[: index % len(kept)].sum()))


def _unbind(tracker: LabelTracker, node: Node) -> Labels:
    dims = tracker.dims(node.args[0])
    dim = argument(node, "dim") % len(dims)
    tracker.pin(node.args[0], dim, f"{node.name} takes it apart")
    return [dims[:dim] + dims[dim + 1:]] * len(node.meta["val"])


def _split(tracker: LabelTracker, node: Node) -> Labels:
    dim = argument(node, "dim") % len(tracker.dims(node.args[0]))
    sizes = [int(part.shape[dim]) for part in node.meta["val"]]
    labels = tracker.flat(node.args[0], dim)
    dims = tracker.dims(node.args[0])
    bounds = np.cumsum(sizes)[:-1]
    parts = [fixed(size) for size in sizes] if labels is None else [
        _part(tracker, node, part) for part in np.split(labels, bounds)]
    return [(*dims[:dim], part, *dims[dim + 1:]) for part in parts]


def _resize_split(node: Node, twin: Node, removal: Removal) -> None:
    dim = argument(node, "dim") % len(shape_of(node.all_input_nodes[0]))
    if not removal.removes(node.args[0], dim):
        return
    kept = removal.kept(node.args[0], dim)
    bounds = np.cumsum([part.shape[dim] for part in node.meta["val"]])[:-1]
    sizes = [int(part.sum()) for part in np.split(kept, bounds)]
    twin.target = aten.split_with_sizes.default
    twin.args = (twin.args[0], sizes, dim)
    twin.kwargs = {}


def _pad(tracker: LabelTracker, node: Node) -> Labels:
    """Padding adds indices without parameters; they get their own labels and can be removed."""
    source: Any = node.args[0]
    dims = list(tracker.dims(source))
    amounts = argument(node, "pad")
    mode = argument(node, "mode", "constant")
    for back in range(len(amounts) // 2):
        dim = len(dims) - 1 - back
        before, after = amounts[2 * back], amounts[2 * back + 1]
        if before == 0 and after == 0:
            continue
        is_plain = before >= 0 and after >= 0 and (not isinstance(mode, str) or mode == "constant")
        labels = tracker.flat(source, dim) if is_plain else None
        if labels is None:
            tracker.pin(source, dim, f"{node.name} pads it by {mode}")
            dims[dim] = fixed(size_of(dims[dim]) + before + after)
        else:
            new_labels = tracker.couplings.new_labels
            dims[dim] = tracked(np.concatenate([new_labels(before), labels, new_labels(after)]))
    return tuple(dims)


def _resize_pad(node: Node, twin: Node, removal: Removal) -> None:
    amounts = list(argument(node, "pad"))
    rank = len(node.meta["val"].shape)
    for back in range(len(amounts) // 2):
        dim = rank - 1 - back
        before, after = amounts[2 * back], amounts[2 * back + 1]
        if (before or after) and removal.removes(node, dim):
            kept = removal.kept(node, dim)
            amounts[2 * back] = int(kept[:before].sum())
            amounts[2 * back + 1] = int(kept[len(kept) - after:].sum())
    set_argument(twin, "pad", amounts)


def _item(tracker: LabelTracker, node: Node) -> Labels:
    """One of several results."""
    result: Any = tracker.results(node.args[0])
    index: Any = node.args[1]
    return result[index] if isinstance(result, list) else None


def _glu(tracker: LabelTracker, node: Node) -> Labels:
    """One half of a dimension gates the other half."""
    dims = list(tracker.dims(node.args[0]))
    dim = argument(node, "dim") % len(dims)
    half = size_of(dims[dim]) // 2
    halves, inside = reshape(tracker.couplings, (dims[dim],), (2, half), f"{node.name} halves it")
    pin(tracker.couplings, halves, f"{node.name} halves it")
    dims[dim] = inside
    return tuple(dims)


OPERATORS: Final = {
    "getitem": Operator(_item),
    **dict.fromkeys(["cat", "concat", "concatenate"], Operator(_cat)),
    "stack": Operator(_stack),
    "slice": Operator(_slice, _resize_slice),
    "narrow": Operator(_narrow, _resize_narrow),
    "select": Operator(_select, _resize_select),
    "unbind": Operator(_unbind),
    **dict.fromkeys(["split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split",
                     "unsafe_chunk", "unsafe_split_with_sizes"], Operator(_split, _resize_split)),
    **dict.fromkeys(["pad", "constant_pad_nd"], Operator(_pad, _resize_pad)),
    "glu": Operator(_glu),
}
