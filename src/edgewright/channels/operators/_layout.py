"""Rearranging elements: reshape, permute, expand, repeat, shuffles."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch.fx import Node

from edgewright.channels._axes import (
    BATCH,
    Dim,
    Dims,
    fixed,
    join,
    match,
    pin,
    reshape,
    size_of,
    tracked,
)
from edgewright.channels.operators._label_tracker import Labels, LabelTracker, Operator, Removal
from edgewright.graph import argument, concrete_size, op_name, set_argument, shape_of

aten = torch.ops.aten


def _reshape(tracker: LabelTracker, node: Node) -> Labels:
    return reshape(tracker.couplings, tracker.dims(node.args[0]), shape_of(node, BATCH),
                   f"{node.name} splits or merges it")


def _resize_view(node: Node, twin: Node, removal: Removal) -> None:
    """Rewrite the sizes; a computed size that is not correct any more becomes -1 (inferred)."""
    name = "size" if argument(node, "size") is not None else "shape"
    before, sizes = argument(node, name), list(argument(twin, name))
    changed = [removal.removes(node, dim) for dim in range(len(before))]
    computed = [is_changed and isinstance(size, Node)
                for size, is_changed in zip(before, changed, strict=True)]
    for dim, size in enumerate(before):
        if computed[dim]:
            sizes[dim] = -1
        elif (changed[dim] and size != -1) or (size == -1 and any(computed)):
            sizes[dim] = removal.kept_size(node, dim)
    set_argument(twin, name, sizes)


def _resize_reshape(node: Node, twin: Node, removal: Removal) -> None:
    """As `_resize_view`, and a view becomes a reshape.

    A view depends on strides, and these on sizes: fused attention leaves its heads elsewhere where
    queries and values differ in width.
    """
    _resize_view(node, twin, removal)
    if twin.target is aten.view.default:
        twin.target, twin.args, twin.kwargs = (
            aten.reshape.default, (twin.args[0], argument(twin, "size")), {})


def _resize_unflatten(node: Node, twin: Node, removal: Removal) -> None:
    start = argument(node, "dim") % len(shape_of(node.all_input_nodes[0]))
    sizes = list(argument(twin, "sizes"))
    for index, size in enumerate(sizes):
        if isinstance(size, int) and size >= 0 and removal.removes(node, start + index):
            sizes[index] = removal.kept_size(node, start + index)
    set_argument(twin, "sizes", sizes)


def _view_like(tracker: LabelTracker, node: Node) -> Labels:
    """A reshape to the sizes of another tensor; the two stay tied."""
    result = reshape(tracker.couplings, tracker.dims(node.args[0]), shape_of(node, BATCH),
                     f"{node.name} splits or merges it")
    other = tracker.dims(argument(node, "other"))
    return tuple(match(tracker.couplings, a, b, f"{node.name} takes a fixed size")
                 for a, b in zip(result, other, strict=True))


def _permute(tracker: LabelTracker, node: Node) -> Labels:
    """Any permutation, determined by applying it to sizes that are all different."""
    dims = tracker.dims(node.args[0])
    target: Any = node.target
    probe = torch.empty(tuple(range(2, 2 + len(dims))), device="meta")
    out = target(probe, *node.args[1:], **node.kwargs)
    return tuple(dims[size - 2] for size in out.shape)


def _expand(tracker: LabelTracker, node: Node) -> Labels:
    """A dimension expanded from 1 has no parameters, so its size can be rewritten."""
    dims = tracker.dims(node.args[0])
    sizes = shape_of(node, BATCH)
    missing = len(sizes) - len(dims)
    return tuple(_made(tracker, size) if place < missing or dims[place - missing] == ()
                 else dims[place - missing] for place, size in enumerate(sizes))


def _made(tracker: LabelTracker, size: int) -> Dim:
    if size == 1 or size % BATCH == 0:
        return fixed(size)
    return tracked(tracker.couplings.new_labels(size))


def _expand_like(tracker: LabelTracker, node: Node) -> Labels:
    dims, other = tracker.dims(node.args[0]), tracker.dims(argument(node, "other"))
    missing = len(other) - len(dims)
    return tuple(dim if place < missing or dims[place - missing] == () else match(
        tracker.couplings, dims[place - missing], dim, f"{node.name} takes a fixed size")
        for place, dim in enumerate(other))


def _create(tracker: LabelTracker, node: Node) -> Labels:
    """A constant tensor: its sizes can be rewritten."""
    return tuple(_made(tracker, size) for size in shape_of(node, BATCH))


def _repeat(tracker: LabelTracker, node: Node) -> Labels:
    dims = tracker.dims(node.args[0])
    sizes, old = shape_of(node, BATCH), shape_of(node.all_input_nodes[0], BATCH)
    missing = len(sizes) - len(dims)
    return tuple(fixed(size) if place < missing
                 else join((size // old[place - missing], *dims[place - missing]))
                 for place, size in enumerate(sizes))


def _repeat_interleave(tracker: LabelTracker, node: Node) -> Labels:
    dims: Dims = tracker.dims(node.args[0])
    if isinstance(argument(node, "repeats"), Node):
        return _pin_all(tracker, node)
    dim = argument(node, "dim")
    if dim is None:
        total = math.prod(shape_of(node.all_input_nodes[0], BATCH))
        dims, dim = reshape(tracker.couplings, dims, (total,), ""), 0
    dim %= len(dims)
    return (*dims[:dim], join((*dims[dim], int(argument(node, "repeats")))), *dims[dim + 1:])


def _pin_all(tracker: LabelTracker, node: Node) -> Labels:
    source = node.args[0]
    for dim in range(len(tracker.dims(source))):
        tracker.pin(source, dim, f"{node.name} repeats it unevenly")
    return tuple(fixed(size) for size in shape_of(node, BATCH))


def _resize_interleave(node: Node, twin: Node, removal: Removal) -> None:
    if argument(node, "output_size") is not None:
        dim = (argument(node, "dim") or 0) % len(shape_of(node))
        if removal.removes(node, dim):
            set_argument(twin, "output_size", removal.kept_size(node, dim))


def _pixel_shuffle(tracker: LabelTracker, node: Node) -> Labels:
    """(..., C r r, H, W) to (..., C, H r, W r): a channel is tied to all its r r pixels."""
    return _fold(tracker, node, argument(node, "upscale_factor") ** 2, -3)


def _fold(tracker: LabelTracker, node: Node, count: int, place: int) -> Dims:
    dims = tracker.dims(node.args[0])
    channel = dims[place]
    kept, inside = reshape(tracker.couplings, (channel,), (size_of(channel) // count, count),
                           f"{node.name} spreads it over space")
    pin(tracker.couplings, inside, f"{node.name} spreads it over space")
    before = dims[: len(dims) + place]
    return (*before, kept, *(fixed(size) for size in shape_of(node, BATCH)[len(before) + 1:]))


def _pixel_unshuffle(tracker: LabelTracker, node: Node) -> Labels:
    return _unfold(tracker, node, argument(node, "downscale_factor") ** 2, -3)


def _unfold(tracker: LabelTracker, node: Node, count: int, place: int) -> Dims:
    dims = tracker.dims(node.args[0])
    before = dims[: len(dims) + place]
    channel = join((*dims[place], count))
    return (*before, channel, *(fixed(size) for size in shape_of(node, BATCH)[len(before) + 1:]))


def _columns(tracker: LabelTracker, node: Node) -> Labels:
    """Sliding windows: each channel is repeated for every position in the window."""
    return _unfold(tracker, node, math.prod(argument(node, "kernel_size")), -3)


def _images(tracker: LabelTracker, node: Node) -> Labels:
    return _fold(tracker, node, math.prod(argument(node, "kernel_size")), -2)


def _windows(tracker: LabelTracker, node: Node) -> Labels:
    dims = list(tracker.dims(node.args[0]))
    dim = argument(node, "dimension") % len(dims)
    tracker.pin(node.args[0], dim, f"{node.name} slides over it")
    sizes = shape_of(node, BATCH)
    dims[dim] = fixed(sizes[dim])
    return (*dims, fixed(sizes[-1]))


def _channel_shuffle(tracker: LabelTracker, node: Node) -> Labels:
    dims = tracker.dims(node.args[0])
    count = argument(node, "groups")
    group, inside = reshape(tracker.couplings, dims[1:2], (count, size_of(dims[1]) // count),
                            f"{node.name} shuffles it")
    tracker.record_dim(node, group)
    return (dims[0], join((*inside, *group)), *dims[2:])


def _resize_shuffle(node: Node, twin: Node, removal: Removal) -> None:
    set_argument(twin, "groups", removal.recorded_size(node))


def _along(tracker: LabelTracker, node: Node) -> Labels:
    """Operators that move or accumulate elements along one dimension, which is pinned."""
    source = node.args[0]
    dims = list(tracker.dims(source))
    along = argument(node, "dims", argument(node, "dim", -1))
    places = along if isinstance(along, list | tuple) else [along]
    outputs = node.meta["val"]
    first = outputs[0] if isinstance(outputs, list | tuple) else outputs
    for place in [place % len(dims) for place in places] or range(len(dims)):
        tracker.pin(source, place, f"{op_name(node)} ({node.name}) reads it in order")
        dims[place] = fixed(concrete_size(first.shape[place], BATCH))
    result = tuple(dims)
    return [result] * len(outputs) if isinstance(outputs, list | tuple) else result


_CREATED: Final = ("zeros", "ones", "full", "empty", "rand", "randn")
OPERATORS: Final = {
    **dict.fromkeys(["view", "reshape", "_unsafe_view", "_reshape_alias"],
                    Operator(_reshape, _resize_reshape)),
    **dict.fromkeys(["flatten", "ravel", "squeeze", "unsqueeze"], Operator(_reshape)),
    "unflatten": Operator(_reshape, _resize_unflatten),
    **dict.fromkeys(["view_as", "reshape_as"], Operator(_view_like)),
    **dict.fromkeys(["permute", "transpose", "t", "numpy_T", "mT", "mH", "adjoint", "movedim",
                     "moveaxis", "swapaxes", "swapdims", "matrix_H"], Operator(_permute)),
    "expand": Operator(_expand, _resize_view),
    "expand_as": Operator(_expand_like),
    **dict.fromkeys([*_CREATED, *(f"new_{kind}" for kind in _CREATED)],
                    Operator(_create, _resize_view)),
    **dict.fromkeys(["repeat", "tile"], Operator(_repeat)),
    "repeat_interleave": Operator(_repeat_interleave, _resize_interleave),
    "pixel_shuffle": Operator(_pixel_shuffle),
    "pixel_unshuffle": Operator(_pixel_unshuffle),
    "im2col": Operator(_columns),
    "col2im": Operator(_images),
    "unfold": Operator(_windows),
    **dict.fromkeys(["channel_shuffle", "native_channel_shuffle"],
                    Operator(_channel_shuffle, _resize_shuffle)),
    **dict.fromkeys(["flip", "roll", "cumsum", "cumprod", "sort", "argsort", "topk", "cummax",
                     "cummin", "logcumsumexp", "rot90"], Operator(_along)),
}
