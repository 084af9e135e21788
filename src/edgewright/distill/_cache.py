"""Asking a teacher once, and keeping what it says."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from edgewright.distill._cache_contents import Contents, list_views, probe
from edgewright.distill._cached_teacher import CachedTeacher
from edgewright.distill._soft_labels import SoftLabels
from edgewright.distill._teacher import Teacher
from edgewright.errors import StorageError, UsageError
from edgewright.task import Batch, Policy, Split, Task
from edgewright.training import NoProgress, Progress, to_device

_BATCH: Final = 256
_DRIFT: Final = 0.05  # of the logits' deviation; another machine or type of engine drifts less


def cache_teacher(teacher: Teacher, task: Task, path: str | Path, *, views: int | None = 4,
                  policy: Policy = "standard", device: torch.device | None = None,
                  progress: Progress | None = None) -> CachedTeacher:
    """What a teacher says of some views of every training sample, asked once and kept in a file.

    A step of training then costs what it costs without a teacher. An epoch takes the views in
    turn, so with fewer views than epochs some are seen again (Beyer et al. 2022, "Knowledge
    distillation: a good teacher is patient and consistent": teacher and student have to see the
    same view). A view of a sample takes 2 bytes a class up to 32 classes, 66 bytes beyond; see
    `SoftLabels`.

    The file appears when it is whole. One that is half made lies beside it under a name of its
    own, and is gone on with. One that is there is used only where it is of this teacher, these
    samples and these views, and the teacher still says the same of some of them.

    Args:
        teacher: Is asked about every view of ``task.train``.
        task: Its training split has to give the same inputs whenever a view is read.
        path: Of the file.
        views: How many, from number 0 on; None for the samples as they are.
        policy: How far the views vary the samples.
        device: Where the teacher is moved to, and asked; None for the CPU.
        progress: Is told of every batch; a view counts as an epoch.

    Raises:
        UsageError: Fewer than one view, or a teacher that hands out features.
        DataError: The training split draws its samples afresh.
        ModelError: The teacher's logits cannot be kept.
        StorageError: The file is of something else or damaged, or cannot be written.

    Example:
        >>> import tempfile
        >>> from edgewright.distill._teacher import ModuleTeacher
        >>> x, y = torch.randn(20, 4), torch.arange(20) % 2
        >>> task = Task((x, y), test=(x, y))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached = cache_teacher(ModuleTeacher(torch.nn.Linear(4, 2)), task,
        ...                            Path(folder, "cache"), views=3)
        >>> cached.views, cached.bytes_per_sample
        (3, 12)
    """
    if views is not None and views < 1:
        raise UsageError(f"a teacher cache needs one view or more, got {views}")
    path, split = Path(path), task.train
    where = torch.device("cpu") if device is None else device
    teacher.to(where)
    sample = probe(split, list_views(views, policy)[0])
    output = teacher.teach(to_device(sample, where))
    if output.features:
        raise UsageError(f"the teacher {teacher.name} hands out {len(output.features)} features, "
                         "which are not kept; use it without a cache")
    contents = Contents.of(teacher.name, split, views, policy, tuple(output.logits.shape[1:]))
    if not path.exists():
        _write_cache(path, teacher, split, contents, where, progress or NoProgress())
    cached = CachedTeacher(path, contents, split.rows)
    labels = SoftLabels(contents.shape)
    said, kept = labels.unpack(labels.pack(output.logits)), cached.teach(sample).logits
    if float((said - kept).abs().mean()) > _DRIFT * float(said.std(correction=0)) + 1e-3:
        raise StorageError(f"the teacher {teacher.name} no longer says what is kept in {path}, "
                           "though its weights are the same: its code has changed, or the file is "
                           "damaged; delete it, and it is made anew")
    return cached


def _write_cache(path: Path, teacher: Teacher, split: Split, contents: Contents,
                 device: torch.device, progress: Progress) -> None:
    labels = SoftLabels(contents.shape)
    partial = path.with_name(f"{path.name}.{sha256(contents.line).hexdigest()[:8]}.partial")
    with _explain_storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what a full disk did not take would be tried again when the file is closed.
        file = partial.open("r+b" if partial.exists() else "w+b", buffering=0)
    with file:
        with _explain_storage_errors(path):
            done = _resume(file, contents, labels.bytes)
        count = len(contents.passes)
        progress.note(f"asking the teacher about {count} x {contents.samples} samples, "
                      f"{labels.bytes} bytes each, for {path}"
                      + (f"; {done} are there already" if done else ""))
        progress.start(count, math.ceil(contents.samples / _BATCH), done // contents.samples)
        try:
            for batch in _read_remaining(split, contents, done):
                records = labels.pack(teacher.teach(to_device(batch, device)).logits)
                _append(file, records, path)
                progress.advance(len(records), math.nan)
        finally:
            progress.stop()
    with _explain_storage_errors(path):
        partial.replace(path)


def _resume(file: FileIO, contents: Contents, bytes_each: int) -> int:
    """Put the file where the next batch belongs; how many records it holds before that."""
    start = len(contents.line)
    if file.read(start) != contents.line:
        file.seek(0)
        file.truncate()
        _write(file, contents.line)
        return 0
    whole = (file.seek(0, os.SEEK_END) - start) // bytes_each
    view, position = divmod(whole, contents.samples)
    done = view * contents.samples + position // _BATCH * _BATCH
    file.truncate(start + done * bytes_each)
    file.seek(start + done * bytes_each)
    return done


def _read_remaining(split: Split, contents: Contents, done: int) -> Iterator[Batch]:
    first, position = divmod(done, contents.samples)
    for index, view in enumerate(contents.passes[first:]):
        start = position // _BATCH if index == 0 else 0
        yield from split.batches(_BATCH, view=view, start=start)


def _append(file: FileIO, records: NDArray[np.void], path: Path) -> None:
    with _explain_storage_errors(path):
        _write(file, records.tobytes())
        os.fsync(file.fileno())  # what counts as done after a power cut has to be there


def _write(file: FileIO, data: bytes) -> None:
    """All of it: a file without a buffer takes what there is room for, and says how much."""
    left = memoryview(data)
    while left:
        left = left[file.write(left):]


@contextmanager
def _explain_storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write the teacher cache {path}: {error.strerror or error}; "
                           "name a file in a folder that can be written and has room") from error
