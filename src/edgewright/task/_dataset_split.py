"""A split backed by a Dataset or an iterable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data import Dataset as TorchDataset

from edgewright.errors import DataError
from edgewright.task._arrays import as_input
from edgewright.task._collate import Collate, check_sampler
from edgewright.task._split import Batch, Split
from edgewright.task._split_checks import check_equal_lengths, check_finite
from edgewright.task._view import View


class Indexable(Protocol):
    """A map-style dataset: a length, and an (input, target) pair at each index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@final
class DatasetSplit(Split):
    """A map-style Dataset, or an iterable, of samples; every batch is checked.

    A sample is a pair (input, target), or a dict. An input is a tensor (or anything that torch's
    default collate converts to one), or a tuple of tensors if the model takes several; so is a
    target, which may also be a dict, or None. Targets that differ in size form
    a list. Samples are
    loaded by a torch DataLoader; augmentation is left to the dataset. An iterable without indices
    is read into memory; it must support repeated iteration.

    Args:
        source: A Dataset, an iterable of samples, or a DataLoader, whose dataset, collate function
            and number of workers are used.
        input_names: For samples that are dicts: the entries that are the model's inputs, in the
            order of its arguments. The others are the targets, a dict unless there is only one.
        collate_fn: Makes (inputs, targets), or a dict, of a list of samples; None uses torch's
            default.
        workers: Worker processes of the DataLoader; 0 loads in the main process, and so is a
            single batch.
        name: Name used in error messages.

    Raises:
        UsageError: A DataLoader whose sampler would be ignored.
        DataError: The source is not a dataset, or an iterator that is exhausted after one pass.

    Example:
        >>> samples = [(torch.zeros(3), 0), (torch.ones(3), 1)]
        >>> next(DatasetSplit(samples).batches(2)).targets
        tensor([0, 1])
        >>> records = [{"ids": torch.zeros(3), "mask": torch.ones(3), "label": 1}]
        >>> batch = next(DatasetSplit(records, input_names=("ids", "mask")).batches(1))
        >>> len(batch.inputs), batch.targets
        (2, tensor([1]))
    """

    def __init__(self, source: Indexable | TorchDataset[Any] | Iterable[Any], *,
                 input_names: Sequence[str] | None = None,
                 collate_fn: Callable[[list[Any]], Any] | None = None, workers: int = 0,
                 name: str = "data") -> None:
        if isinstance(source, DataLoader):
            check_sampler(source, name)
            workers = workers or source.num_workers
            if collate_fn is None and source.collate_fn is not default_collate:
                collate_fn = source.collate_fn
            source = source.dataset
        self._source = _as_map_style(source, name)
        super().__init__(name, len(self._source))
        self._workers = workers
        self._collate = Collate(name, None if input_names is None else tuple(input_names),
                                collate_fn)

    @property
    def streams_targets(self) -> bool:
        """True."""
        return True

    @property
    def varies_sizes(self) -> bool:
        """Whether a collate function of the user makes the batches, which may pad each."""
        return self._collate.collate_fn is not None

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """The inputs among the entries of a sample that is a dict."""
        return self._collate.input_names

    def _stream(self, chunks: Sequence[Tensor], view: View | None) -> Iterator[Batch]:
        rows = [self._indices[chunk] for chunk in chunks]
        loader: DataLoader[Any] = DataLoader(
            _ErrorContextDataset(self._source, self.name),
            batch_sampler=[indices.tolist() for indices in rows],
            collate_fn=replace(self._collate, name=self.name),
            num_workers=self._workers if len(rows) > 1 else 0,
            generator=torch.Generator().manual_seed(0 if view is None else view.number % 2**63))
        for indices, found in zip(rows, loader, strict=True):
            if isinstance(found, DataError):
                raise found
            inputs, targets = found
            yield self._make_batch(inputs, targets, indices, view)

    def _make_batch(self, inputs: Any, targets: Any, indices: Tensor, view: View | None) -> Batch:
        tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            found = ", ".join(type(part).__name__ for part in tensors)
            raise DataError(f"a batch of the {self.name} split holds {found}; inputs must be "
                            "tensors, numbers or arrays")
        tensors = tuple(as_input(tensor, self.name) for tensor in tensors)
        check_equal_lengths(tensors, targets, self.name)
        check_finite(tensors, self.name, indices)
        return Batch(tensors, targets, indices, view)


class _ErrorContextDataset(Dataset[Any]):
    """Wraps a dataset so that its errors are samples that name the split and their position."""

    def __init__(self, source: Indexable, name: str) -> None:
        self._source, self._name = source, name

    def __getitem__(self, index: int) -> Any:
        try:
            return self._read(index)
        except DataError as error:
            return error

    def _read(self, index: int) -> Any:
        try:
            return self._source[index]
        except Exception as error:
            raise DataError(f"sample {index} of the {self._name} split cannot be read: "
                            f"{type(error).__name__}: {error}") from error


def _as_map_style(source: Any, name: str) -> Indexable:
    if isinstance(source, str | bytes | Path | Mapping | Tensor | np.ndarray):
        raise DataError(f"the {name} split is a {type(source).__name__} alone; expected a Dataset, "
                        "a pair (inputs, targets) of tensors, or an iterable of (input, target)")
    if isinstance(source, tuple):
        kinds = ", ".join(type(part).__name__ for part in source[:4])
        raise DataError(f"the {name} split is a tuple of {len(source)} ({kinds}); expected a pair "
                        "(inputs, targets) of tensors or arrays, with several inputs as a tuple: "
                        "((first, second), targets); give samples as a list")
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
