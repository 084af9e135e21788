"""Labels of channels: one for every index of every dimension that a parameter gives rise to.

Each index along a tracked dimension carries an integer label. An operator that ties two indices
together (an addition, a depthwise filter, a norm's scale) unites their labels; one that moves
data (a concat, a slice, a flatten) moves the labels along. Labels that end up in one class can
only be kept or removed together. A dimension nobody can prune (a batch, a picture's height) has
no labels, written None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

LabelArray: TypeAlias = NDArray[np.int64]
DimLabels: TypeAlias = LabelArray | None
TensorLabels: TypeAlias = tuple[DimLabels, ...]


class LabelClasses:
    """Disjoint sets of labels (union by attachment, path halving), some of them pinned.

    A pinned class must be kept whole; the first reason given is remembered.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> LabelArray:
        """New labels, each a class of its own."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, label: int) -> int:
        """The label that stands for the class of ``label``."""
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def all_roots(self) -> LabelArray:
        """`root` of every label there is."""
        count = len(self._parent)
        return np.fromiter(map(self.root, range(count)), np.int64, count)

    def unite(self, first: LabelArray, second: LabelArray) -> None:
        """Tie two arrays of labels together, index by index."""
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            keep, gone = self.root(a), self.root(b)
            if keep == gone:
                continue
            self._parent[gone] = keep
            reason = self._reasons.pop(gone, None)
            if reason is not None:
                self._reasons.setdefault(keep, reason)

    def pin(self, labels: DimLabels, reason: str) -> None:
        """Say that these must be kept, and why."""
        if labels is None:
            return
        for label in labels.tolist():
            self._reasons.setdefault(self.root(label), reason)

    def reason(self, root: int) -> str | None:
        """Why a class is pinned, or None if it may be removed."""
        return self._reasons.get(root)

    def match(self, first: DimLabels, second: DimLabels, reason: str) -> DimLabels:
        """Unite two dimensions of one size; where only one is tracked, pin it."""
        if first is not None and second is not None:
            self.unite(first, second)
            return first
        self.pin(first, reason)
        self.pin(second, reason)
        return None


def reshape_labels(classes: LabelClasses, labels: TensorLabels, old: Sequence[int],
                   new: Sequence[int], reason: str, batch: int = 0) -> TensorLabels:
    """Labels after a reshape from ``old`` to ``new`` sizes.

    Dimensions are matched in runs of equal product. Within a run, one tracked dimension may be
    merged with untracked ones (its labels repeat) or come back out of such a merge; anything else
    is pinned, and so is what is merged with the dimension of ``batch`` (a size no other has).
    """
    result: list[DimLabels] = [None] * len(new)
    for sources, targets in _runs(old, new):
        tracked = [i for i in sources if labels[i] is not None]
        if not tracked:
            continue
        is_batch_merged = bool(batch) and any(old[i] % batch == 0 for i in sources)
        if len(tracked) > 1 or not targets or is_batch_merged:
            for index in tracked:
                classes.pin(labels[index], reason)
            continue
        flat = _flatten(labels[tracked[0]], [old[i] for i in sources], sources.index(tracked[0]))
        sizes = [new[i] for i in targets]
        axis = _varying_axis(flat.reshape(sizes))
        if axis is None:
            classes.pin(labels[tracked[0]], reason)
        else:
            lead = [0] * len(sizes)
            picked: list[int | slice] = list(lead)
            picked[axis] = slice(None)
            result[targets[axis]] = flat.reshape(sizes)[tuple(picked)]
    return tuple(result)


def _runs(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Pairs of index runs of ``old`` and ``new`` with equal products, as fine as they come."""
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        sources, targets = [i], [j]
        left, right = old[i], new[j]
        while left != right:
            if left < right:
                i += 1
                sources.append(i)
                left *= old[i]
            else:
                j += 1
                targets.append(j)
                right *= new[j]
        runs.append((sources, targets))
        i, j = i + 1, j + 1
    if i < len(old):  # dimensions of one that are squeezed away at the end
        runs.append((list(range(i, len(old))), []))
    return runs


def _flatten(labels: DimLabels, sizes: Sequence[int], axis: int) -> LabelArray:
    assert labels is not None  # noqa: S101  (callers pass a tracked dimension)
    shape = [1] * len(sizes)
    shape[axis] = sizes[axis]
    return np.ascontiguousarray(np.broadcast_to(labels.reshape(shape), sizes)).reshape(-1)


def _varying_axis(block: LabelArray) -> int | None:
    """The one axis along which labels differ; None if there are several."""
    varying = [axis for axis in range(block.ndim)
               if block.shape[axis] > 1 and np.any(block != block.take([0], axis=axis))]
    if len(varying) > 1:
        return None
    if varying:
        return varying[0]
    return max(range(block.ndim), key=lambda axis: block.shape[axis])
