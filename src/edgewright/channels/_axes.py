"""Dimensions as products of axes, and how a reshape regroups them.

A dimension is a tuple of axes, outermost first. An axis that can be pruned is an array of labels;
any other axis (a batch, the height of an image) is an integer, its extent. Axes of extent 1 are
omitted and adjacent extents are multiplied, so an untracked dimension is ``(n,)`` or ``()``.
Because axes are kept separate, a reshape can merge channels with the batch and split them again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import numpy as np

from edgewright.channels._couplings import Couplings, LabelArray

Axis: TypeAlias = LabelArray | int
Dim: TypeAlias = tuple[Axis, ...]
Dims: TypeAlias = tuple[Dim, ...]

BATCH: Final = 7919  # a prime as the batch size, to distinguish it from every other size


def fixed(size: int) -> Dim:
    """An untracked dimension."""
    return () if size == 1 else (size,)


def tracked(labels: LabelArray) -> Dim:
    """A dimension of labels; a dimension of size 1 cannot be pruned, so it is not tracked."""
    return (labels,) if len(labels) > 1 else fixed(len(labels))


def axes_of(dim: Dim) -> list[LabelArray]:
    """The axes that can be pruned."""
    return [axis for axis in dim if not isinstance(axis, int)]


def extent(axis: Axis) -> int:
    """Number of indices along an axis."""
    return axis if isinstance(axis, int) else len(axis)


def size_of(dim: Dim) -> int:
    """Number of indices along a dimension."""
    return math.prod(extent(axis) for axis in dim)


def has_batch(dim: Dim) -> bool:
    """Whether the batch is part of a dimension; its indices cannot be listed then."""
    return any(isinstance(axis, int) and axis % BATCH == 0 for axis in dim)


def join(axes: Iterable[Axis]) -> Dim:
    """Axes as one dimension: adjacent extents are multiplied, extents of 1 are omitted."""
    result: list[Axis] = []
    for axis in axes:
        if extent(axis) == 1:
            continue
        last = result[-1] if result else None
        if isinstance(axis, int) and isinstance(last, int):
            result[-1] = last * axis
        else:
            result.append(axis)
    return tuple(result)


def pin(couplings: Couplings, dim: Dim, reason: str) -> Dim:
    """Pin all tracked axes of a dimension; the result is an untracked dimension."""
    for axis in axes_of(dim):
        couplings.pin(axis, reason)
    return fixed(size_of(dim))


def flatten(couplings: Couplings, dim: Dim, reason: str) -> LabelArray | None:
    """One label per index, in order; None for a dimension that is not tracked.

    If several axes are tracked, the labels are new and a product of theirs. If the batch is among
    the axes, the tracked ones are pinned.
    """
    axes = axes_of(dim)
    if not axes:
        return None
    if has_batch(dim):
        pin(couplings, dim, reason)
        return None
    if len(axes) == 1:
        cells = axes[0]
    else:
        cells = couplings.new_labels(math.prod(len(axis) for axis in axes))
        couplings.product(cells, axes)
    if len(dim) == len(axes):
        return cells
    labelled = [1 if isinstance(axis, int) else len(axis) for axis in dim]
    whole = np.broadcast_to(cells.reshape(labelled), [extent(axis) for axis in dim])
    return np.ascontiguousarray(whole).reshape(-1)


def divide(couplings: Couplings, axis: Axis, sizes: Sequence[int]) -> Dim:
    """Split an axis into new ones, whose sizes multiply to its extent."""
    if isinstance(axis, int):
        return tuple(sizes)
    if sum(size > 1 for size in sizes) == 1:
        return tuple(axis if size > 1 else size for size in sizes)
    factors = [couplings.new_labels(size) for size in sizes]
    couplings.product(axis, factors)
    return tuple(factors)


def match(couplings: Couplings, first: Dim, second: Dim, reason: str) -> Dim:
    """Tie two dimensions of equal size together; if only one is tracked, it is pinned."""
    if first == () and second == ():
        return ()
    if [extent(axis) for axis in first] == [extent(axis) for axis in second]:
        return tuple(_match_axis(couplings, a, b, reason)
                     for a, b in zip(first, second, strict=True))
    left = flatten(couplings, first, reason)
    right = flatten(couplings, second, reason)
    if left is None or right is None:
        pin(couplings, first, reason)
        return pin(couplings, second, reason)
    couplings.unite(left, right)
    return tracked(left)


def _match_axis(couplings: Couplings, first: Axis, second: Axis, reason: str) -> Axis:
    if isinstance(first, int) and isinstance(second, int):
        return first
    if isinstance(first, int) or isinstance(second, int):
        pin(couplings, (first, second), reason)
        return extent(first)
    couplings.unite(first, second)
    return first


def reshape(couplings: Couplings, dims: Dims, sizes: Sequence[int], reason: str) -> Dims:
    """Dimensions after a reshape to ``sizes``.

    Axes are merged and split according to the sizes. Where the sizes do not nest (12 by 4 to 8 by
    6), the tracked axes are pinned.
    """
    result: list[Dim] = [()] * len(sizes)
    if 0 in sizes:
        for dim in dims:
            pin(couplings, dim, reason)
        return tuple(fixed(size) for size in sizes)
    targets = [index for index, size in enumerate(sizes) if size > 1]
    for axes, positions in _runs(dims, [sizes[index] for index in targets]):
        new_sizes = [sizes[targets[position]] for position in positions]
        parts = _regroup(couplings, axes, new_sizes)
        if parts is None:
            pin(couplings, tuple(axes), reason)
            parts = [fixed(size) for size in new_sizes]
        for position, part in zip(positions, parts, strict=True):
            result[targets[position]] = part
    return tuple(result)


def _runs(dims: Dims, sizes: Sequence[int]) -> list[tuple[list[Axis], list[int]]]:
    """Axes and indices of ``sizes`` in runs of equal product, as short as possible."""
    runs: list[tuple[list[Axis], list[int]]] = []
    axes = list(join(axis for dim in dims for axis in dim))
    pending = list(reversed(axes))
    place = 0
    while place < len(sizes):
        taken, places = [pending.pop()], [place]
        left, right = extent(taken[0]), sizes[place]
        while left != right:
            if left < right:
                taken.append(pending.pop())
                left *= extent(taken[-1])
            elif isinstance(taken[-1], int) and _cut(taken, pending, left, right):
                left = right
            else:
                place += 1
                places.append(place)
                right *= sizes[place]
        runs.append((taken, places))
        place += 1
    return runs


def _cut(taken: list[Axis], pending: list[Axis], left: int, right: int) -> bool:
    """Return the part of the last extent that a run does not need, if it divides evenly."""
    last = taken[-1]
    before = left // extent(last)
    if right % before or extent(last) % (right // before):
        return False
    taken[-1] = right // before
    pending.append(left // right)
    return True


def _regroup(couplings: Couplings, axes: Sequence[Axis], sizes: Sequence[int]) -> list[Dim] | None:
    """The axes of a run as dimensions of ``sizes``, or None if the sizes do not nest."""
    if not axes_of(tuple(axes)):
        return [fixed(size) for size in sizes]
    plan = _bounds(axes, sizes)
    if plan is None:
        return None
    pieces: list[Axis] = []
    for axis, widths in zip(axes, plan, strict=True):
        pieces.extend(divide(couplings, axis, widths) if len(widths) > 1 else (axis,))
    result: list[Dim] = []
    pending = list(reversed(pieces))
    for size in sizes:
        part: list[Axis] = []
        while math.prod(extent(axis) for axis in part) < size:
            part.append(pending.pop())
        result.append(join(part))
    return result


def _bounds(axes: Sequence[Axis], sizes: Sequence[int]) -> list[list[int]] | None:
    """Extents of the parts of every axis, split at the ends of ``sizes``; None if not nested."""
    ends = set(np.cumprod(sizes).tolist())
    plan: list[list[int]] = []
    before = 1
    for axis in axes:
        after = before * extent(axis)
        inner = sorted(end for end in ends if before < end < after)
        chain = [before, *inner, after]
        if any(b % a for a, b in itertools.pairwise(chain)):
            return None
        plan.append([b // a for a, b in itertools.pairwise(chain)])
        before = after
    return plan
