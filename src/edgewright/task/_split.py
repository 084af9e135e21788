"""A split: samples that come in batches, in an order fixed by a seed."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final, NamedTuple, Self, final

import torch
from torch import Tensor

from edgewright.errors import DataError, UsageError
from edgewright.task._arrays import plain
from edgewright.task._seeded import seeded
from edgewright.task._view import Policy, View

_DIGESTED: Final = 256  # samples at a time


class Batch(NamedTuple):
    """Samples, as a model takes them.

    Attributes:
        inputs: Each of shape (N, ...), in the order of the model's arguments.
        targets: Class indices, (N,) int64; of mixed samples (mixup, CutMix) probabilities of the
            classes, (N, classes) float32.
        rows: Which samples of the data they are, (N,) int64; of mixed ones, the first of each
            mixture, so that rows and view do not tell the inputs.
        view: Which variation of these; None for the samples as they are.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    rows: Tensor
    view: View | None = None


class Split(ABC):
    """One of a task's splits: batches of inputs and class indices, the same for the same seed.

    Args:
        name: What error messages call it ("train", "val", "test").
        count: Rows of the data behind it.
        targets: The rows' class indices, where they are at hand; None where they stream.
    """

    policies: ClassVar[frozenset[Policy]] = frozenset({"standard"})

    def __init__(self, name: str, count: int, targets: Tensor | None = None) -> None:
        self.name = name
        self._indices = torch.arange(count)
        self._targets = targets

    def __len__(self) -> int:
        return len(self._indices)

    @final
    def select(self, indices: Sequence[int] | Tensor) -> Self:
        """The split of these samples only, in this order; it shares the data."""
        part = copy.copy(self)
        part._indices = self._indices[torch.as_tensor(indices, dtype=torch.long)]
        return part

    @final
    @property
    def rows(self) -> Tensor:
        """Which rows of the data behind it the samples are, (N,) int64."""
        return self._indices

    @final
    def order(self, seed: int) -> Tensor:
        """A random order of the samples' positions, the same for the same seed, (N,) int64."""
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))

    @final
    def labels(self) -> Tensor | None:
        """Every sample's class index in order, where that takes no pass over the data."""
        return None if self._targets is None else self._targets[self._indices]

    def check(self, num_classes: int) -> None:
        """Refuse a label outside 0..num_classes-1; a split that streams does so as it streams.

        Raises:
            DataError: Names the split, the sample, its label and the allowed range.
        """
        labels = self.labels()
        if labels is not None:
            check_range(labels, num_classes, self.name, self._indices)

    @property
    def variation(self) -> str:
        """How a view may vary the inputs, in words."""
        return ", ".join(sorted(self.policies))

    @final
    def digest(self) -> str:
        """A checksum of every sample in order, input and label, as it is without augmentation.

        Costs one pass over the data as it is stored: tensors are hashed where they lie, images as
        their files' bytes (60,000 images of CIFAR-10 in about a second), the samples of a dataset
        as it hands them out, with the global random generators at a fixed seed.

        Returns:
            SHA-256, in hex.

        Example:
            >>> from edgewright.task import TensorSplit
            >>> split = TensorSplit(torch.eye(3), torch.arange(3))
            >>> split.digest() == split.named("test").digest() == split.select([0, 2]).digest()
            False
        """
        state = hashlib.sha256()
        state.update(f"{type(self).__name__} {len(self)}\n".encode())
        with seeded(0):
            for content in self._contents():
                state.update(len(content).to_bytes(8, "little"))
                state.update(content)
        return state.hexdigest()

    def _contents(self) -> Iterator[bytes | memoryview]:
        """All that `digest` is of, in order, whatever the size of the pieces."""
        for batch in self.batches(_DIGESTED) if len(self) else ():
            for tensor in (*batch.inputs, batch.targets):
                yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
                yield bytes_of(tensor)

    @abstractmethod
    def _stream(self, chunks: Sequence[Tensor], view: View | None) -> Iterator[Batch]:
        """A batch for each chunk of sample positions."""

    @final
    def batches(self, batch_size: int, *, shuffle_seed: int | None = None,
                view: View | None = None, start: int = 0) -> Iterator[Batch]:
        """Every sample once, ``batch_size`` at a time; the last batch may be smaller.

        Args:
            batch_size: Samples in a batch, at least 1.
            shuffle_seed: Seed of the order; None keeps it.
            view: Which random variation of the inputs, where the split knows how to vary them;
                None leaves them as they are.
            start: Batches to leave out at the beginning.

        Raises:
            UsageError: ``batch_size`` is below 1, or samples of this kind cannot be varied by the
                view's policy.
            DataError: The split is empty, or a sample cannot be used.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {batch_size}")
        if len(self) == 0:
            raise DataError(f"the {self.name} split is empty")
        if view is not None and view.policy not in self.policies:
            raise UsageError(f"the {self.name} split is a {type(self).__name__}, which cannot be "
                             f"varied by {view.policy!r}: that distorts uint8 images; give an "
                             "ImageSplit, vary the samples in the dataset itself, or set "
                             "augment='standard'")
        order = torch.arange(len(self)) if shuffle_seed is None else self.order(shuffle_seed)
        return self._stream(torch.split(order, batch_size)[start:], view)

    @final
    def example(self, n: int = 1) -> tuple[Tensor, ...]:
        """The inputs of the first ``n`` samples (fewer where there are fewer), as one batch."""
        return next(self.select(range(min(n, len(self)))).batches(max(n, 1))).inputs

    def form(self) -> tuple[str, ...]:
        """Type and shape of each input of a sample; where a split cannot say, of its first."""
        return tuple(f"{plain(tensor.dtype)} {tuple(tensor.shape[1:])}"
                     for tensor in self.example())

    @final
    def sample(self, n: int, *, seed: int = 0) -> Self:
        """A random subset of ``n`` samples (all of them where there are fewer), kept in order."""
        return self.select(self.order(seed)[:n].sort().values)

    @final
    def named(self, name: str) -> Self:
        """The same split under another name."""
        twin = copy.copy(self)
        twin.name = name
        return twin


def bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's elements in order, as they lie in memory.

    Example:
        >>> bytes(bytes_of(torch.tensor([1, 2], dtype=torch.uint8)))
        b'\\x01\\x02'
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data


def class_indices(targets: Tensor, name: str, indices: Tensor | None = None) -> Tensor:
    """The targets as int64, once they are seen to be a vector of class indices.

    Raises:
        DataError: They are no integers, no vector, or one is negative.
    """
    if targets.dtype == torch.bool or targets.is_floating_point() or targets.is_complex():
        raise DataError(f"the targets of the {name} split are {plain(targets.dtype)}; expected "
                        "integers, the index of each sample's class (argmax(1) of one-hot rows, "
                        "long() of whole numbers)")
    if targets.ndim != 1:
        raise DataError(f"the targets of the {name} split have shape {tuple(targets.shape)}; "
                        "expected one class index a sample, shape (N,)")
    targets = targets.long()
    check_range(targets, None, name, indices)
    return targets


def check_range(targets: Tensor, num_classes: int | None, name: str,
                indices: Tensor | None = None) -> None:
    """Refuse a label below 0, or above ``num_classes - 1`` where that is known."""
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
    """Refuse inputs that hold a NaN or an infinity, naming the first such sample."""
    for tensor in inputs:
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        bad = ~torch.isfinite(tensor.flatten(1)).all(dim=1)
        position = int(bad.nonzero()[0])
        index = position if indices is None else int(indices[position])
        raise DataError(f"sample {index} of the {name} split holds NaN or infinity; "
                        "remove it or repair it")


def check_lengths(inputs: tuple[Tensor, ...], targets: Tensor, name: str) -> None:
    """Refuse inputs and targets of different lengths."""
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in (*inputs, targets)}
    if len(lengths) == 1:
        return
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
    count = len(targets) if targets.ndim else 0
    turned = [tensor for tensor in inputs
              if tensor.ndim > 1 and len(tensor) != count and count in tensor.shape]
    remedy = (f"; samples come first: transpose the one of shape {tuple(turned[0].shape)}, and "
              "back within the model" if turned else "")
    raise DataError(f"the {name} split has inputs of shape {shapes} but targets of shape "
                    f"{tuple(targets.shape)}; their lengths must agree{remedy}")


def check_alike(reference: Split, other: Split) -> None:
    """Refuse a split whose samples another model would take than another split's.

    Raises:
        DataError: Names both splits, shapes and types.
    """
    first, second = reference.form(), other.form()
    if first != second:
        raise DataError(f"a sample of the {other.name} split is {' and '.join(second)}, one of "
                        f"the {reference.name} split {' and '.join(first)}; a model takes one "
                        "form: prepare both in the same way")
