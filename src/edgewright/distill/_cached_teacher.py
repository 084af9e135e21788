"""A teacher that is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from edgewright.distill._cache_contents import Contents
from edgewright.distill._soft_labels import SoftLabels
from edgewright.distill._teacher import Teacher, TeacherOutput
from edgewright.errors import DataError, StorageError, UsageError
from edgewright.task import Batch, View


@final
class CachedTeacher(Teacher):
    """Says of the views of the training samples what a teacher once said; `cache_teacher` has it.

    Looks the samples up by their rows and their view, whatever the inputs; the file is mapped, not
    read. There are no features, and no mixtures of samples.

    Args:
        path: The cache.
        contents: What it has to be of.
        rows: Of the split's samples, in order, (N,) int64.

    Raises:
        StorageError: The cache is of something else, or is damaged.
    """

    requires_sample_ids = True

    def __init__(self, path: Path, contents: Contents, rows: torch.Tensor) -> None:
        contents.check(path)
        self._labels = SoftLabels(contents.shape)
        shape = (len(contents.passes), contents.samples)
        expected = len(contents.line) + shape[0] * shape[1] * self._labels.bytes
        if (found := path.stat().st_size) != expected:
            raise StorageError(f"the teacher cache {path} has {found} bytes, and {expected} were "
                               "expected: it is cut short or damaged; delete it, and it is made "
                               "anew")
        self._records = np.memmap(path, self._labels.dtype, "r", len(contents.line), shape)
        self._positions = torch.full((int(rows.max()) + 1,), -1)
        self._positions[rows] = torch.arange(len(rows))
        self._passes = {view: index for index, view in enumerate(contents.passes)}
        self._device = torch.device("cpu")
        self._made_from = (path, contents, rows)
        self.views = contents.views
        self.name = f"{contents.teacher}, kept of {contents.views} views"

    def __reduce__(self) -> tuple[Any, ...]:  # another process maps the file, and is not sent it
        return CachedTeacher, self._made_from

    @property
    def bytes_per_sample(self) -> int:
        """Of all its views."""
        return self._labels.bytes * len(self._records)

    def to(self, device: torch.device) -> None:
        """From now on, hand out logits on this device."""
        self._device = device

    def teach(self, batch: Batch) -> TeacherOutput:
        """What the teacher said of these rows in this view, float32.

        Raises:
            UsageError: The batch is of a view that is not kept.
            DataError: A sample is none of the training samples.
        """
        rows = batch.rows.cpu()
        positions = self._positions[rows.clamp(max=len(self._positions) - 1)]
        unknown = (positions < 0) | (rows >= len(self._positions))
        if bool(unknown.any()):
            raise DataError(f"the teacher cache holds nothing of sample {int(rows[unknown][0])}: "
                            "it is of the training split alone")
        records = self._records[self._pass(batch.view), positions.numpy()]
        return TeacherOutput(self._labels.unpack(records).to(self._device))

    def _pass(self, view: View | None) -> int:
        if view in self._passes:
            return self._passes[view]
        kept = ", ".join(_describe(one) for one in self._passes)
        raise UsageError(f"the teacher cache holds {kept}, and {_describe(view)} was asked for; "
                         "train with the augmentation it was made with, and an objective whose "
                         "`views` are the teacher's")


def _describe(view: View | None) -> str:
    return "the samples as they are" if view is None else f"view {view.number} ({view.policy})"
