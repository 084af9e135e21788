"""Run a teacher once and store its outputs in a file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.distill._cache_header import CacheHeader, list_views, probe
from edgewright.distill._cached_teacher import CachedTeacher
from edgewright.distill._soft_labels import SoftLabels
from edgewright.distill._teacher import Teacher
from edgewright.errors import StorageError, UsageError
from edgewright.goals import Categorical, Goal, Prediction
from edgewright.task import AugmentationPolicy, Batch, Split, Task
from edgewright.training import NoProgress, Progress, to_device

_BATCH: Final = 256
_MAX_DRIFT: Final = 0.05  # relative to the logits' std; other machines and engines differ by less


def cache_teacher(teacher: Teacher, task: Task, path: str | Path, *, views: int | None = 4,
                  policy: AugmentationPolicy = "standard", device: torch.device | None = None,
                  progress: Progress | None = None) -> CachedTeacher:
    """Compute a teacher's outputs for several views of every training sample and store them.

    Training steps then need no forward pass of the teacher. Epochs cycle through the views, so with
    fewer views than epochs, views repeat (Beyer et al. 2022, "Knowledge distillation: a good
    teacher is patient and consistent": teacher and student have to see the same view). The task's
    goal must have one prediction, logits with the classes in the last dimension. A view of a sample
    takes 2 bytes per class up to 32 classes, and 66 bytes in total beyond; see `SoftLabels`.

    The file appears once it is complete. A partial file is kept beside it under another name, and a
    later call continues it. An existing file is used only if it belongs to this teacher, these
    samples and these views, and if the teacher still gives the same outputs for some of them.

    Args:
        teacher: The teacher; it is run on every view of ``task.train``.
        task: Its training split must give the same inputs every time a view is read.
        path: The file.
        views: Number of views, numbered from 0. Use as many as there are epochs if time and disk
            space allow. None stores outputs for the samples without augmentation.
        policy: The augmentation of the views.
        device: Device to run the teacher on; None for the CPU.
        progress: Receives every batch; a view counts as an epoch.

    Raises:
        UsageError: Fewer than one view, a teacher that returns features, or a goal with
            predictions that cannot be stored.
        DataError: The training split is not reproducible.
        ModelError: The teacher's logits cannot be stored.
        StorageError: The file belongs to something else, is damaged, or cannot be written.

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
        raise UsageError(f"a teacher cache needs at least one view, got {views}")
    path, split = Path(path), task.train
    where = torch.device("cpu") if device is None else device
    teacher.to(where)
    sample = probe(split, list_views(views, policy)[0])
    output = teacher.teach(to_device(sample, where))
    if output.features:
        raise UsageError(f"the teacher {teacher.name} returns {len(output.features)} features, "
                         "which a cache does not store; use it without a cache")
    logits = find_logits(task.goal, output.outputs)
    header = CacheHeader.create(teacher.name, split, views, policy, tuple(logits.shape[1:]))
    if not path.exists():
        _write_cache(path, _Source(teacher, task, where), header, progress or NoProgress())
    cached = CachedTeacher(path, header, split.rows)
    labels = SoftLabels(header.shape)
    current, stored = labels.unpack(labels.pack(logits)), cached.teach(sample).outputs
    drift = float((current - stored).abs().mean())
    if drift > _MAX_DRIFT * float(current.std(correction=0)) + 1e-3:
        raise StorageError(f"the outputs of the teacher {teacher.name} differ from those stored in "
                           f"{path}, though its weights are the same: its code has changed, or the "
                           "file is damaged; delete the file to recreate it")
    return cached


def find_logits(goal: Goal, outputs: Any) -> Tensor:
    """The logits (N, ..., classes) that a cache stores of a teacher's outputs.

    Raises:
        UsageError: The goal has several predictions, or one that is not such logits.

    Example:
        >>> from edgewright.goals import Classification
        >>> find_logits(Classification(output="out"), {"out": torch.zeros(5, 3)}).shape
        torch.Size([5, 3])
    """
    found = goal.predictions(outputs)
    if len(found) == 1 and isinstance(found[0].kind, Categorical):
        tensor = found[0].tensor
        if found[0].kind.axis in (-1, tensor.ndim - 1):
            return tensor
    raise UsageError(f"a teacher cache stores logits (N, classes) of one prediction, but the goal "
                     f"{goal.name} has {', '.join(map(_describe, found))}; use the teacher without "
                     "a cache")


class _Source(NamedTuple):
    """A teacher and the samples it is run on."""

    teacher: Teacher
    task: Task
    device: torch.device

    def read_logits(self, batch: Batch) -> Tensor:
        """The teacher's logits for a batch, on the device."""
        outputs = self.teacher.teach(to_device(batch, self.device)).outputs
        return find_logits(self.task.goal, outputs)


def _describe(prediction: Prediction) -> str:
    name = f"{prediction.name!r}: " if prediction.name else ""
    return f"{name}{type(prediction.kind).__name__} {tuple(prediction.tensor.shape)}"


def _write_cache(path: Path, source: _Source, header: CacheHeader, progress: Progress) -> None:
    labels = SoftLabels(header.shape)
    partial = path.with_name(f"{path.name}.{sha256(header.line).hexdigest()[:8]}.partial")
    with _explain_storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: otherwise data that a full disk rejected is written again on close.
        file = partial.open("r+b" if partial.exists() else "w+b", buffering=0)
    with file:
        with _explain_storage_errors(path):
            done = _resume(file, header, labels.bytes)
        count = len(header.passes)
        progress.note(f"running the teacher on {count} x {header.samples} samples, "
                      f"{labels.bytes} bytes each, for {path}"
                      + (f"; {done} are done already" if done else ""))
        progress.start(count, math.ceil(header.samples / _BATCH), done // header.samples)
        try:
            for batch in _read_remaining(source.task.train, header, done):
                records = labels.pack(source.read_logits(batch))
                _append(file, records, path)
                progress.advance(len(records), math.nan)
        finally:
            progress.stop()
    with _explain_storage_errors(path):
        partial.replace(path)


def _resume(file: FileIO, header: CacheHeader, bytes_each: int) -> int:
    """Seek to the position of the next batch; return the number of records before it."""
    start = len(header.line)
    if file.read(start) != header.line:
        file.seek(0)
        file.truncate()
        _write(file, header.line)
        return 0
    whole = (file.seek(0, os.SEEK_END) - start) // bytes_each
    view, position = divmod(whole, header.samples)
    done = view * header.samples + position // _BATCH * _BATCH
    file.truncate(start + done * bytes_each)
    file.seek(start + done * bytes_each)
    return done


def _read_remaining(split: Split, header: CacheHeader, done: int) -> Iterator[Batch]:
    first, position = divmod(done, header.samples)
    for index, view in enumerate(header.passes[first:]):
        start = position // _BATCH if index == 0 else 0
        yield from split.batches(_BATCH, view=view, start=start)


def _append(file: FileIO, records: NDArray[np.void], path: Path) -> None:
    with _explain_storage_errors(path):
        _write(file, records.tobytes())
        os.fsync(file.fileno())  # records that count as done must survive a power cut


def _write(file: FileIO, data: bytes) -> None:
    """Write all data; an unbuffered file may write only a part per call."""
    left = memoryview(data)
    while left:
        left = left[file.write(left):]


@contextmanager
def _explain_storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write the teacher cache {path}: {error.strerror or error}; "
                           "choose a file in a writable folder with free space") from error
