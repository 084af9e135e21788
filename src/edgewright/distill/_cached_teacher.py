"""A teacher whose outputs are read from a cache file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from edgewright.distill._cache_header import CacheHeader
from edgewright.distill._soft_labels import SoftLabels
from edgewright.distill._teacher import Teacher, TeacherOutput
from edgewright.errors import DataError, StorageError, UsageError
from edgewright.task import Batch, View


@final
class CachedTeacher(Teacher):
    """Returns a teacher's stored outputs for the training samples; made by `cache_teacher`.

    Samples are looked up by row and view; the inputs are ignored. The file is memory-mapped.
    Features and mixed samples are not supported.

    Args:
        path: The cache.
        header: The expected header.
        rows: Rows of the split's samples, in order, (N,) int64.

    Raises:
        StorageError: The cache has another header, or is damaged.
    """

    requires_sample_ids = True

    def __init__(self, path: Path, header: CacheHeader, rows: torch.Tensor) -> None:
        header.check(path)
        self._labels = SoftLabels(header.shape)
        shape = (len(header.passes), header.samples)
        expected = len(header.line) + shape[0] * shape[1] * self._labels.bytes
        if (found := path.stat().st_size) != expected:
            raise StorageError(f"the teacher cache {path} has {found} bytes, and {expected} were "
                               "expected: it is truncated or damaged; delete it to recreate it")
        self._records = np.memmap(path, self._labels.dtype, "r", len(header.line), shape)
        self._positions = torch.full((int(rows.max()) + 1,), -1)
        self._positions[rows] = torch.arange(len(rows))
        self._passes = {view: index for index, view in enumerate(header.passes)}
        self._device = torch.device("cpu")
        self._init_args = (path, header, rows)
        self.views = header.views
        self.name = f"{header.teacher}, cached for {header.views} views"

    def __reduce__(self) -> tuple[Any, ...]:  # another process maps the file itself
        return CachedTeacher, self._init_args

    @property
    def bytes_per_sample(self) -> int:
        """Bytes per sample over all views."""
        return self._labels.bytes * len(self._records)

    def to(self, device: torch.device) -> None:
        """Return outputs on this device from now on."""
        self._device = device

    def teach(self, batch: Batch) -> TeacherOutput:
        """The stored logits of these rows in this view, float32.

        Raises:
            UsageError: The batch is of a view that is not stored.
            DataError: A sample is not a training sample.
        """
        rows = batch.rows.cpu()
        positions = self._positions[rows.clamp(max=len(self._positions) - 1)]
        unknown = (positions < 0) | (rows >= len(self._positions))
        if bool(unknown.any()):
            raise DataError(f"the teacher cache has no entry for sample {int(rows[unknown][0])}: "
                            "it covers the training split only")
        records = self._records[self._pass(batch.view), positions.numpy()]
        return TeacherOutput(self._labels.unpack(records).to(self._device))

    def _pass(self, view: View | None) -> int:
        if view in self._passes:
            return self._passes[view]
        kept = ", ".join(_describe(one) for one in self._passes)
        raise UsageError(f"the teacher cache holds {kept}, but {_describe(view)} was requested; "
                         "train with the augmentation that it was made with, and with an objective "
                         "that has the same `views` as the teacher")


def _describe(view: View | None) -> str:
    return "samples without augmentation" if view is None else f"view {view.number} ({view.policy})"
