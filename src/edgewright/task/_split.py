"""A split: samples in batches, in an order determined by a seed."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Self, final

import torch
from torch import Tensor

from edgewright.errors import DataError, UsageError
from edgewright.goals import Goal, Origin, list_targets
from edgewright.task._arrays import short_name
from edgewright.task._targets import select_rows, target_tensors
from edgewright.task._temporary_seed import temporary_seed
from edgewright.task._view import AugmentationPolicy, View

_HASH_BATCH: Final = 256  # samples at a time


class Batch(NamedTuple):
    """A batch of samples.

    Attributes:
        inputs: Tensors of shape (N, ...), in the order of the model's arguments.
        targets: What the task's goal compares the outputs with: class indices, (N,) int64, for a
            classification, or a tensor or a dict of tensors for other goals. For mixed samples
            (mixup, CutMix) of a classification class probabilities, (N, classes) float32.
        rows: Indices of the samples in the data, (N,) int64. For mixed samples, the first sample
            of each mixture; rows and view then do not determine the inputs.
        view: Which random variation of the samples; None for the unmodified samples.
    """

    inputs: tuple[Tensor, ...]
    targets: Any
    rows: Tensor
    view: View | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.rows)


class Split(ABC):
    """One of a task's splits: batches of inputs and targets, reproducible by seed.

    Args:
        name: Name used in error messages ("train", "val", "test").
        count: Number of rows of the underlying data.
        targets: The targets of all rows, a tensor or a tree of tensors; None if there are none, or
            if they are only known as batches are read.
    """

    def __init__(self, name: str, count: int, targets: Any = None) -> None:
        self.name = name
        self._indices = torch.arange(count)
        self._targets = targets
        self._goal: Goal | None = None
        self._allows_unlabeled = False
        self._classes: int | None = None
        self._outputs: Any = None
        self._is_augmented = True  # whether a view may vary the inputs, and not the targets

    def __len__(self) -> int:
        return len(self._indices)

    @final
    def select(self, indices: Sequence[int] | Tensor) -> Self:
        """A split of these samples only, in this order; it shares the data."""
        part = copy.copy(self)
        part._indices = self._indices[torch.as_tensor(indices, dtype=torch.long)]
        return part

    @final
    @property
    def rows(self) -> Tensor:
        """Indices of the samples in the underlying data, (N,) int64."""
        return self._indices

    @final
    def order(self, seed: int) -> Tensor:
        """A random permutation of the samples' positions, determined by the seed, (N,) int64."""
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))

    @final
    def for_goal(self, goal: Goal, classes: int | None = None, *,
                 allow_unlabeled: bool = False) -> Self:
        """This split with the targets checked and made by a goal.

        Targets in memory are checked at once, others as their batches are read.

        Args:
            goal: The goal.
            classes: Number of classes, if their names are known.
            allow_unlabeled: Whether samples without targets are accepted; their batches have None.

        Raises:
            DataError: The targets do not fit the goal; the message names the sample.
        """
        twin = copy.copy(self)
        twin._goal, twin._classes, twin._outputs = goal, classes, None
        twin._allows_unlabeled = allow_unlabeled and goal.requires_targets
        twin._check_targets()
        return twin

    @final
    def check(self, outputs: Any) -> None:
        """Check that the targets fit a model; streaming splits check as they stream.

        Args:
            outputs: The model's outputs for some batch; their shapes bound the targets.

        Raises:
            DataError: The message names the split, the sample, its label and the allowed range.
        """
        self._outputs = outputs
        self._check_targets()

    @final
    def targets(self) -> Any:
        """Every sample's target in order, as the data hold it; None if that needs a pass."""
        return None if self._targets is None else select_rows(self._targets, self._indices)

    def _check_targets(self) -> None:
        """Check the targets that are in memory."""
        if self._goal is None or (self._targets is None and self.streams_targets):
            return
        if self._is_unlabeled(self._targets):
            return
        checked = self._check(self._goal, self.targets(), self._indices)
        self._is_augmented = self._goal.allows_augmentation(checked)

    @property
    def augmentation_policies(self) -> frozenset[AugmentationPolicy]:
        """The augmentations that the split supports, or passes over."""
        return frozenset({"standard"})

    @property
    def streams_targets(self) -> bool:
        """Whether targets are only known as batches are read."""
        return False

    def _finish(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches with the targets that the goal makes of them.

        A generator: when it ends early, so does the one of the batches, with its thread.
        """
        for batch in batches:
            if self._goal is None or self._is_unlabeled(batch.targets):
                yield batch
                continue
            targets = self._check(self._goal, batch.targets, batch.rows)
            yield batch._replace(targets=self._goal.make_targets(batch.inputs, targets))

    def _is_unlabeled(self, targets: Any) -> bool:
        """Whether there are no targets, and none are needed."""
        return targets is None and self._allows_unlabeled

    def _check(self, goal: Goal, targets: Any, rows: Tensor) -> Any:
        """The checked targets of these rows."""
        if goal.lists_targets:
            targets = list_targets(targets, len(rows))
        return goal.check_targets(targets, Origin(self.name, rows, self._classes), self._outputs)

    @property
    def variation(self) -> str:
        """A description of how a view may vary the inputs."""
        return ", ".join(sorted(self.augmentation_policies))

    @property
    def varies_sizes(self) -> bool:
        """Whether the inputs of two batches may differ in size."""
        return False

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """Names of the inputs, in order, if the data have them."""
        return None

    @final
    def digest(self) -> str:
        """A checksum over the inputs and labels of all samples in order, without augmentation.

        Takes one pass over the stored data: tensors are hashed in memory, images as encoded files
        (60,000 images of CIFAR-10 in about a second), and a dataset's samples as it returns them,
        with the global random generators at a fixed seed.

        Returns:
            SHA-256, in hex.

        Example:
            >>> from edgewright.task import TensorSplit
            >>> split = TensorSplit(torch.eye(3), torch.arange(3))
            >>> split.digest() == split.with_name("test").digest() == split.select([0, 2]).digest()
            False
        """
        state = hashlib.sha256()
        state.update(f"{type(self).__name__} {len(self)}\n".encode())
        with temporary_seed(0):
            for content in self._contents():
                state.update(len(content).to_bytes(8, "little"))
                state.update(content)
        return state.hexdigest()

    def _contents(self) -> Iterator[bytes | memoryview]:
        """The bytes that `digest` covers, in order, in pieces of any size."""
        for batch in self.batches(_HASH_BATCH) if len(self) else ():
            for tensor in (*batch.inputs, *target_tensors(batch.targets)):
                yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
                yield bytes_of(tensor)

    @abstractmethod
    def _stream(self, chunks: Sequence[Tensor], view: View | None) -> Iterator[Batch]:
        """Yield a batch for each chunk of sample positions."""

    @final
    def batches(self, batch_size: int, *, shuffle_seed: int | None = None,
                view: View | None = None, start: int = 0) -> Iterator[Batch]:
        """Iterate over all samples once; the last batch may be smaller.

        Args:
            batch_size: Samples per batch, at least 1.
            shuffle_seed: Seed of the order; None does not shuffle.
            view: Which random variation of the inputs, for splits that support augmentation; None
                leaves the inputs unmodified.
            start: Number of batches to skip at the beginning.

        Raises:
            UsageError: ``batch_size`` is below 1, or the split does not support the view's policy.
            DataError: The split is empty, or a sample cannot be used.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {batch_size}")
        if len(self) == 0:
            raise DataError(f"the {self.name} split is empty")
        if view is not None and view.policy not in self.augmentation_policies:
            reason = ("that distorts uint8 images; give an ImageSplit" if self._is_augmented else
                      "the targets would not follow the distorted images; give a Dataset")
            raise UsageError(f"the {self.name} split is a {type(self).__name__}, which does not "
                             f"support {view.policy!r}: {reason}, augment the samples in the "
                             "dataset itself, or set augment='standard'")
        order = torch.arange(len(self)) if shuffle_seed is None else self.order(shuffle_seed)
        return self._finish(self._stream(torch.split(order, batch_size)[start:], view))

    @final
    def example(self, n: int = 1) -> tuple[Tensor, ...]:
        """The inputs of the first ``n`` samples (or all, if there are fewer), as one batch."""
        return next(self.select(range(min(n, len(self)))).batches(max(n, 1))).inputs

    def input_signature(self) -> tuple[str, ...]:
        """Dtype and shape of each input of a sample, by default those of the first sample."""
        return tuple(f"{short_name(tensor.dtype)} {tuple(tensor.shape[1:])}"
                     for tensor in self.example())

    @final
    def sample(self, n: int, *, seed: int = 0) -> Self:
        """A random subset of ``n`` samples (or all, if there are fewer), in their order."""
        return self.select(self.order(seed)[:n].sort().values)

    @final
    def with_name(self, name: str) -> Self:
        """The same split under another name."""
        twin = copy.copy(self)
        twin.name = name
        return twin


def bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's elements in order, as raw bytes.

    Example:
        >>> bytes(bytes_of(torch.tensor([1, 2], dtype=torch.uint8)))
        b'\\x01\\x02'
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data
