"""A split: samples in batches, in an order determined by a seed."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final, NamedTuple, Self, final

import torch
from torch import Tensor

from edgewright.errors import DataError, UsageError
from edgewright.task._arrays import short_name
from edgewright.task._temporary_seed import temporary_seed
from edgewright.task._view import AugmentationPolicy, View

_HASH_BATCH: Final = 256  # samples at a time


class Batch(NamedTuple):
    """A batch of samples.

    Attributes:
        inputs: Tensors of shape (N, ...), in the order of the model's arguments.
        targets: Class indices, (N,) int64; for mixed samples (mixup, CutMix) class probabilities,
            (N, classes) float32.
        rows: Indices of the samples in the data, (N,) int64. For mixed samples, the first sample
            of each mixture; rows and view then do not determine the inputs.
        view: Which random variation of the samples; None for the unmodified samples.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    rows: Tensor
    view: View | None = None


class Split(ABC):
    """One of a task's splits: batches of inputs and class indices, reproducible by seed.

    Args:
        name: Name used in error messages ("train", "val", "test").
        count: Number of rows of the underlying data.
        targets: The class index of each row; None if labels are only known as batches are read.
    """

    augmentation_policies: ClassVar[frozenset[AugmentationPolicy]] = frozenset({"standard"})

    def __init__(self, name: str, count: int, targets: Tensor | None = None) -> None:
        self.name = name
        self._indices = torch.arange(count)
        self._targets = targets

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
    def labels(self) -> Tensor | None:
        """Every sample's class index in order; None if that needs a pass over the data."""
        return None if self._targets is None else self._targets[self._indices]

    def check(self, num_classes: int) -> None:
        """Raise if a label is outside 0..num_classes-1; streaming splits check as they stream.

        Raises:
            DataError: The message names the split, the sample, its label and the allowed range.
        """
        labels = self.labels()
        if labels is not None:
            check_range(labels, num_classes, self.name, self._indices)

    @property
    def variation(self) -> str:
        """A description of how a view may vary the inputs."""
        return ", ".join(sorted(self.augmentation_policies))

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
            for tensor in (*batch.inputs, batch.targets):
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
            raise UsageError(f"the {self.name} split is a {type(self).__name__}, which does not "
                             f"support {view.policy!r}: that distorts uint8 images; give an "
                             "ImageSplit, augment the samples in the dataset itself, or set "
                             "augment='standard'")
        order = torch.arange(len(self)) if shuffle_seed is None else self.order(shuffle_seed)
        return self._stream(torch.split(order, batch_size)[start:], view)

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


def to_class_indices(targets: Tensor, name: str, indices: Tensor | None = None) -> Tensor:
    """Check that the targets are a vector of class indices, and convert them to int64.

    Raises:
        DataError: They are not integers, not a vector, or one is negative.
    """
    if targets.dtype == torch.bool or targets.is_floating_point() or targets.is_complex():
        raise DataError(f"the targets of the {name} split are {short_name(targets.dtype)}; "
                        "expected integers, the index of each sample's class (argmax(1) of one-hot "
                        "rows, long() of whole numbers)")
    if targets.ndim != 1:
        raise DataError(f"the targets of the {name} split have shape {tuple(targets.shape)}; "
                        "expected one class index per sample, shape (N,)")
    targets = targets.long()
    check_range(targets, None, name, indices)
    return targets


def check_range(targets: Tensor, num_classes: int | None, name: str,
                indices: Tensor | None = None) -> None:
    """Raise if a label is below 0 or, given ``num_classes``, above ``num_classes - 1``."""
    wrong = targets < 0
    if num_classes is not None:
        wrong |= targets >= num_classes
    if not wrong.any():
        return
    position = int(wrong.nonzero()[0])
    index = position if indices is None else int(indices[position])
    allowed = "0 or more" if num_classes is None else f"0..{num_classes - 1}"
    raise DataError(f"sample {index} of the {name} split has label {int(targets[position])}; "
                    f"allowed: {allowed}")


def check_finite(inputs: tuple[Tensor, ...], name: str, indices: Tensor | None = None) -> None:
    """Raise if an input holds NaN or infinity; the message names the first such sample."""
    for tensor in inputs:
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        bad = ~torch.isfinite(tensor.flatten(1)).all(dim=1)
        position = int(bad.nonzero()[0])
        index = position if indices is None else int(indices[position])
        raise DataError(f"sample {index} of the {name} split holds NaN or infinity; "
                        "remove or fix it")


def check_equal_lengths(inputs: tuple[Tensor, ...], targets: Tensor, name: str) -> None:
    """Raise if inputs and targets differ in length."""
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in (*inputs, targets)}
    if len(lengths) == 1:
        return
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
    count = len(targets) if targets.ndim else 0
    transposed = [tensor for tensor in inputs
                  if tensor.ndim > 1 and len(tensor) != count and count in tensor.shape]
    remedy = (f"; the first dimension must be the batch: transpose the input of shape "
              f"{tuple(transposed[0].shape)}, and transpose it back within the model"
              if transposed else "")
    raise DataError(f"the {name} split has inputs of shape {shapes} but targets of shape "
                    f"{tuple(targets.shape)}; their lengths must be equal{remedy}")


def check_same_signature(reference: Split, other: Split) -> None:
    """Raise if samples of two splits differ in the shapes or dtypes of their inputs.

    Raises:
        DataError: The message names both splits, shapes and dtypes.
    """
    first, second = reference.input_signature(), other.input_signature()
    if first != second:
        raise DataError(f"a sample of the {other.name} split is {' and '.join(second)}, but one "
                        f"of the {reference.name} split is {' and '.join(first)}; a model needs "
                        "the same shapes and types: prepare both splits in the same way")
