"""A split backed by a Dataset or an iterable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data import Dataset as TorchDataset

from edgewright.errors import DataError, UsageError
from edgewright.task._arrays import as_input
from edgewright.task._split import (
    Batch,
    Split,
    check_equal_lengths,
    check_finite,
    check_range,
    to_class_indices,
)
from edgewright.task._view import View


class Indexable(Protocol):
    """A map-style dataset: a length, and an (input, target) pair at each index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@final
class DatasetSplit(Split):
    """A map-style Dataset, or an iterable, of (input, target); every batch is checked.

    An input is a tensor (or anything that torch's default collate converts to one), or a tuple of
    tensors if the model takes several. Samples are loaded by a torch DataLoader; augmentation is
    left to the dataset. An iterable without indices is read into memory; it must support repeated
    iteration.

    Args:
        source: A Dataset or an iterable of (input, target).
        workers: Worker processes of the DataLoader; 0 loads in the main process.
        name: Name used in error messages.

    Raises:
        UsageError: A DataLoader is given instead of its dataset.
        DataError: The source is not a dataset, or an iterator that is exhausted after one pass.

    Example:
        >>> samples = [(torch.zeros(3), 0), (torch.ones(3), 1)]
        >>> next(DatasetSplit(samples).batches(2)).targets
        tensor([0, 1])
    """

    def __init__(self, source: Indexable | TorchDataset[Any] | Iterable[Any], *, workers: int = 0,
                 name: str = "data") -> None:
        self._source = _as_map_style(source, name)
        super().__init__(name, len(self._source))
        self._workers = workers
        self._num_classes: int | None = None

    def check(self, num_classes: int) -> None:
        """From now on, raise a DataError if a batch holds a label outside 0..num_classes-1."""
        self._num_classes = num_classes

    def _stream(self, chunks: Sequence[Tensor], view: View | None) -> Iterator[Batch]:
        rows = [self._indices[chunk] for chunk in chunks]
        loader: DataLoader[Any] = DataLoader(
            _ErrorContextDataset(self._source, self.name),
            batch_sampler=[indices.tolist() for indices in rows],
            collate_fn=_Collate(self.name), num_workers=self._workers,
            generator=torch.Generator().manual_seed(0 if view is None else view.number % 2**63))
        for indices, (inputs, targets) in zip(rows, loader, strict=True):
            yield self._make_batch(inputs, targets, indices, view)

    def _make_batch(self, inputs: Any, targets: Any, indices: Tensor, view: View | None) -> Batch:
        tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        if not all(isinstance(tensor, Tensor) for tensor in (*tensors, targets)):
            found = ", ".join(type(part).__name__ for part in (*tensors, targets))
            raise DataError(f"a batch of the {self.name} split holds {found}; inputs and targets "
                            "must be tensors, numbers or arrays")
        tensors = tuple(as_input(tensor, self.name) for tensor in tensors)
        check_equal_lengths(tensors, targets, self.name)
        targets = to_class_indices(targets, self.name, indices)
        check_range(targets, self._num_classes, self.name, indices)
        check_finite(tensors, self.name, indices)
        return Batch(tensors, targets, indices, view)


class _ErrorContextDataset(Dataset[Any]):
    """Wraps a dataset so that its errors name the split and the sample."""

    def __init__(self, source: Indexable, name: str) -> None:
        self._source, self._name = source, name

    def __getitem__(self, index: int) -> Any:
        try:
            return self._source[index]
        except Exception as error:
            raise DataError(f"sample {index} of the {self._name} split cannot be read: "
                            f"{type(error).__name__}: {error}") from error


class _Collate:
    """Torch's default collate with errors that name the split; a class, so that it pickles."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, samples: list[Any]) -> tuple[Any, Any]:
        for sample in samples:
            if not isinstance(sample, tuple | list) or len(sample) != 2:
                raise DataError(f"a sample of the {self.name} split is a "
                                f"{_describe_sample(sample)}; expected a pair (input, target)")
        try:
            inputs, targets = default_collate([(sample[0], _to_collatable(sample[1]))
                                               for sample in samples])
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"samples of the {self.name} split do not form a batch: {error}"
                            ) from error
        return inputs, targets


def _to_collatable(target: Any) -> Any:
    """Convert NumPy's unsigned integers, which torch's default collate rejects, to ``int``."""
    return int(target) if isinstance(target, np.unsignedinteger) else target


def _as_map_style(source: Any, name: str) -> Indexable:
    if isinstance(source, DataLoader):
        raise UsageError(f"the {name} split is a DataLoader; pass its dataset (loader.dataset): "
                         "Edgewright makes the batches itself")
    if isinstance(source, str | bytes | Path | Mapping | Tensor | np.ndarray):
        raise DataError(f"the {name} split is a {type(source).__name__} alone; expected a Dataset, "
                        "a pair (inputs, targets) of tensors, or an iterable of (input, target)")
    if isinstance(source, tuple) and not all(isinstance(sample, tuple) and len(sample) == 2
                                             for sample in source):
        kinds = ", ".join(type(part).__name__ for part in source[:4])
        raise DataError(f"the {name} split is a tuple of {len(source)} ({kinds}); expected a pair "
                        "(inputs, targets) of tensors or arrays, with several inputs as a tuple: "
                        "((first, second), targets)")
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        found: Indexable = source
        return found
    if not hasattr(source, "__iter__"):
        raise DataError(f"the {name} split is a {type(source).__name__}; expected a Dataset, a "
                        "pair of tensors, or an iterable of (input, target)")
    if iter(source) is source:
        raise DataError(f"the {name} split is an iterator ({type(source).__name__}), exhausted "
                        "after one pass; pass a list or a Dataset")
    return list(source)


def _describe_sample(sample: object) -> str:
    name = type(sample).__name__
    return f"{name} of length {len(sample)}" if isinstance(sample, tuple | list) else name
