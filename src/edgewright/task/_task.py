"""A task: data in three splits, and the goal of the model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from edgewright.core import AudioPreprocessing, MetricSpec, Preprocessing
from edgewright.errors import DataError, UsageError
from edgewright.goals import GoalLike, as_goal
from edgewright.task._arrays import as_tensor
from edgewright.task._audio_split import AudioSplit
from edgewright.task._dataset_split import DatasetSplit
from edgewright.task._image_split import ImageSplit
from edgewright.task._split import Split
from edgewright.task._split_checks import check_same_signature
from edgewright.task._targets import target_tensors
from edgewright.task._tensor_split import TensorSplit

Array: TypeAlias = Tensor | NDArray[Any]
SplitLike: TypeAlias = (Split | Dataset[Any] | tuple[Array | tuple[Array, ...], Any]
                        | Iterable[Any])

VALIDATION_SHARE: Final = 0.1
_COMPARED_SAMPLES: Final = 16


@final
class Task:
    """The data that a model is trained, selected and evaluated on, and the goal.

    A split is given as a `Split`, a torch Dataset or DataLoader, a pair ``(inputs, targets)`` of
    tensors, or a list (or any other iterable) of samples ``(input, target)`` or dicts. A tuple is
    always the pair: several inputs are a tuple of tensors, several targets a dict or a tuple, and
    no targets are None. A pair of uint8 images (N, C, H, W) and targets needs ``preprocessing``;
    so do recordings (N, samples), int16 or floating point, for an `AudioPreprocessing`.
    The test split is used for evaluation only; every selection is made on ``val``.

    Args:
        train: Training split. Without targets it serves calibration and distillation with
            ``alpha=1``; ``val`` is then required.
        val: Validation split; None holds out a random tenth of ``train``.
        test: Test split; required.
        goal: What the model's outputs are for: a name such as "classification" (default),
            "binary", "multi-label", "segmentation", "regression", "reconstruction" or "embedding",
            an object such as ``Regression("l1", unit="years")``, a dict with one goal per output,
            or a `CustomGoal` with any loss and metrics.
        inputs: For samples that are dicts: the entries that are the model's inputs, in the order of
            the program's inputs; the others are the targets. A model whose forward pass has
            arguments of these names is captured with them, in any order.
        collate_fn: Makes (inputs, targets) of a list of samples; None uses torch's default.
        preprocessing: Converts raw images or recordings to inputs; stored in the bundle.
        classes: Name of each class, in the order of the labels.
        name: Name of the data in records and reports.
        seed: Selects the held-out tenth.

    Raises:
        UsageError: An unknown goal, or the test split passed as ``val`` too.
        DataError: No test split, an empty split, a label without a name in ``classes``, or data
            that cannot be used.

    Example:
        >>> import torch
        >>> x, y = torch.rand(20, 4), torch.arange(20) % 2
        >>> task = Task((x, y), test=(x, y))
        >>> len(task.train), len(task.val), len(task.test)
        (18, 2, 20)
        >>> Task((x, y.float()), test=(x, y.float()), goal="regression").metrics[0].name
        'mae'
    """

    def __init__(self, train: SplitLike, val: SplitLike | None = None,  # noqa: PLR0913 - public
                 test: SplitLike | None = None, goal: GoalLike = "classification", *,
                 inputs: Sequence[str] | None = None,
                 collate_fn: Callable[[list[Any]], Any] | None = None,
                 preprocessing: Preprocessing | AudioPreprocessing | None = None,
                 classes: Iterable[str] | None = None, name: str = "task", seed: int = 0) -> None:
        if test is None:
            raise DataError(f"task {name!r} has no test split; give one, because all reported "
                            "metrics are measured on it (hold out some training data if needed)")
        if val is test:
            raise UsageError("val and test are the same object; the test split must not be used "
                             "for selection: omit val to hold out a tenth of train")
        self.goal = as_goal(goal)
        self.name = name
        self.seed = seed
        self.classes = None if classes is None else tuple(classes)

        def read(data: SplitLike, split: str) -> Split:
            found = _as_split(data, split, preprocessing, inputs, collate_fn)
            return found.for_goal(self.goal, self.num_classes,
                                  allow_unlabeled=split == "train" and val is not None)

        whole = read(train, "train")
        self.test = read(test, "test")
        if val is None:
            kept, held = split_rows(len(whole), VALIDATION_SHARE, seed)
            self.train, self.val = whole.select(kept), whole.select(held).with_name("val")
        else:
            self.train, self.val = whole, read(val, "val")
        if preprocessing is None and isinstance(self.train, ImageSplit | AudioSplit):
            preprocessing = self.train.preprocessing
        self.preprocessing = preprocessing
        self._check_splits()

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """Name, unit and direction of the goal's metrics, the primary one first."""
        return tuple(metric.spec for metric in self.goal.metrics)

    @property
    def metric(self) -> MetricSpec:
        """The primary metric, which budgets and epochs are about."""
        return self.metrics[0]

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None if their names are unknown."""
        return None if self.classes is None else len(self.classes)

    def check(self, outputs: Any) -> None:
        """Check that every target fits a model.

        Splits in memory are checked at once, streaming splits as their batches are read.

        Args:
            outputs: The model's outputs for some batch; their shapes bound the targets.

        Raises:
            DataError: The message names the split, the sample, its label and the allowed range.

        Example:
            >>> import torch
            >>> x, y = torch.rand(4, 2), torch.tensor([0, 1, 2, 3])
            >>> Task((x, y), (x, y), (x[:1], y[:1])).check(torch.zeros(1, 3))
            Traceback (most recent call last):
                ...
            edgewright.errors.DataError: sample 3 of the train split has label 3; allowed: 0..2
        """
        for split in (self.train, self.val, self.test):
            split.check(outputs)

    def __repr__(self) -> str:
        return (f"Task({self.name!r}, train={len(self.train)}, val={len(self.val)}, "
                f"test={len(self.test)})")

    def _check_splits(self) -> None:
        for split in (self.train, self.val, self.test):
            if len(split) == 0:
                raise DataError(f"the {split.name} split of task {self.name!r} is empty")
        for split in (self.val, self.test):
            check_same_signature(self.train, split)
        if len(self.val) == len(self.test) and _first_samples_equal(self.val, self.test):
            raise UsageError(f"val and test of task {self.name!r} hold the same samples; the test "
                             "split must not be used for selection: omit val to hold out a tenth "
                             "of train")


def split_rows(count: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split 0..count-1 randomly into (kept, held out), each sorted; at least one is held out.

    Raises:
        DataError: There are fewer than two samples.
    """
    if count < 2:
        raise DataError(f"the train split has {count} samples; at least two are needed to hold "
                        "out one for validation")
    held = max(1, round(count * share))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[held:].sort().values, order[:held].sort().values


def _as_split(data: Any, name: str, preprocessing: Preprocessing | AudioPreprocessing | None,
              inputs: Sequence[str] | None,
              collate_fn: Callable[[list[Any]], Any] | None) -> Split:
    if isinstance(data, Split):
        return data.with_name(name)
    if not _is_pair(data):
        return DatasetSplit(data, input_names=inputs, collate_fn=collate_fn, name=name)
    tensors = tuple(as_tensor(part, f"the inputs of the {name} split")
                    for part in (data[0] if isinstance(data[0], tuple) else data[:1]))
    if isinstance(preprocessing, AudioPreprocessing) and len(tensors) == 1 and tensors[0].ndim == 2:
        return AudioSplit(tensors[0], data[1], preprocessing, name=name)
    if any(tensor.dtype == torch.uint8 for tensor in tensors):
        if not isinstance(preprocessing, Preprocessing):
            raise DataError(f"the {name} split holds uint8 images; give Task(preprocessing=...), "
                            "or float inputs")
        if len(tensors) > 1:
            raise DataError(f"the {name} split has {len(tensors)} inputs, one of them uint8; give "
                            "float inputs: images are normalized only if they are the one input")
        return ImageSplit(tensors[0], data[1], preprocessing, flip=preprocessing.channels > 1,
                          name=name)
    return TensorSplit(tensors, data[1], name=name)


def _is_pair(data: Any) -> bool:
    """Whether data are (inputs, targets) with tensors or arrays as inputs."""
    if not isinstance(data, tuple) or len(data) != 2:
        return False
    inputs = data[0] if isinstance(data[0], tuple) else data[:1]
    return len(inputs) > 0 and all(isinstance(part, Tensor | np.ndarray) for part in inputs)


def _first_samples_equal(first: Split, second: Split) -> bool:
    """Whether two splits of equal length begin with the same samples."""
    count = min(_COMPARED_SAMPLES, len(first))
    batches = [next(split.select(range(count)).batches(count)) for split in (first, second)]
    one, other = ([*batch.inputs, *target_tensors(batch.targets)] for batch in batches)
    return len(one) == len(other) and all(map(torch.equal, one, other))
