"""Make a batch of samples: pairs, or dicts of inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from edgewright.errors import DataError, UsageError


@final
@dataclass(frozen=True)
class Collate:
    """From a list of samples to (inputs, targets), or to an error that names the split.

    A class and not a closure, so that worker processes can unpickle it. Errors are returned,
    because torch would wrap one that a worker process raises in a page of text.

    Attributes:
        name: Name of the split.
        input_names: The inputs among the entries of a dict; None for pairs.
        collate_fn: The user's function; None for torch's default.

    Example:
        >>> inputs, targets = Collate("train")([(torch.zeros(2), 1), (torch.ones(2), 0)])
        >>> inputs.shape, targets.tolist()
        (torch.Size([2, 2]), [1, 0])
    """

    name: str
    input_names: tuple[str, ...] | None = None
    collate_fn: Callable[[list[Any]], Any] | None = None

    def __call__(self, samples: list[Any]) -> tuple[Any, Any] | DataError:
        try:
            return self._batch(samples)
        except DataError as error:
            return error

    def _batch(self, samples: list[Any]) -> tuple[Any, Any]:
        for sample in samples:
            if isinstance(sample, DataError):
                raise sample
        if self.collate_fn is not None:
            return self._call_user(self.collate_fn, samples)
        pairs = [self._split(sample) for sample in samples]
        try:
            inputs = default_collate([_as_arrays(pair[0]) for pair in pairs])
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"samples of the {self.name} split do not form a batch: {error}"
                            ) from error
        return inputs, collate_targets([pair[1] for pair in pairs])

    def _call_user(self, collate_fn: Callable[[list[Any]], Any], samples: list[Any],
                   ) -> tuple[Any, Any]:
        try:
            batch = collate_fn(samples)
        except Exception as error:
            raise DataError(f"the collate function of the {self.name} split failed: "
                            f"{type(error).__name__}: {error}") from error
        if isinstance(batch, Mapping) or (isinstance(batch, tuple | list) and len(batch) == 2):
            inputs, targets = pytree.tree_map_only(np.ndarray, torch.as_tensor,
                                                   self._split(batch))
            return inputs, targets
        raise DataError(f"the collate function of the {self.name} split returned a "
                        f"{_describe(batch)}; expected (inputs, targets) or a dict")

    def _split(self, sample: Any) -> tuple[Any, Any]:
        """Inputs and targets of a sample, or of a batch that is a dict."""
        if isinstance(sample, Mapping):
            return self._split_mapping(sample)
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise DataError(f"a sample of the {self.name} split is a {_describe(sample)}; "
                            "expected a pair (input, target), whose target may be None, or a dict")
        if isinstance(sample[0], Mapping):
            return self._split_mapping(sample[0])[0], sample[1]
        return sample[0], sample[1]

    def _split_mapping(self, sample: Mapping[str, Any]) -> tuple[Any, Any]:
        if self.input_names is None:
            raise DataError(f"a sample of the {self.name} split is a dict with "
                            f"{', '.join(map(str, sample))}; say which entries are the model's "
                            "inputs, in the order of its arguments: Task(..., inputs=(...))")
        if missing := [name for name in self.input_names if name not in sample]:
            raise DataError(f"a sample of the {self.name} split has no {', '.join(missing)}; it "
                            f"has {', '.join(map(str, sample))}")
        inputs = tuple(sample[name] for name in self.input_names)
        rest = {name: value for name, value in sample.items() if name not in self.input_names}
        targets = next(iter(rest.values())) if len(rest) == 1 else rest or None
        return inputs[0] if len(inputs) == 1 else inputs, targets


def collate_targets(targets: list[Any]) -> Any:
    """The targets of a batch: stacked, or a list if they differ in size.

    Example:
        >>> collate_targets([{"age": 3.0}, {"age": 4.0}])
        {'age': tensor([3., 4.], dtype=torch.float64)}
        >>> collate_targets([torch.zeros(1), torch.zeros(2)])
        [tensor([0.]), tensor([0., 0.])]
        >>> collate_targets([None, None]) is None
        True
    """
    targets = [_as_arrays(target) for target in targets]
    leaves, structures = zip(*map(pytree.tree_flatten, targets), strict=True)
    try:
        if any(structure != structures[0] for structure in structures):
            raise ValueError("the samples have targets of different structures")
        return pytree.tree_unflatten([_stack(parts) for parts in zip(*leaves, strict=True)],
                                     structures[0])
    except (RuntimeError, TypeError, ValueError):
        return [pytree.tree_map_only((np.ndarray, int, float), torch.as_tensor, target)
                for target in targets]


def check_sampler(loader: DataLoader[Any], name: str) -> None:
    """Check that a DataLoader's sampler does not change which samples are seen.

    Raises:
        UsageError: It does; batches are made here, so it would be ignored.
    """
    for sampler, known in ((loader.sampler, (SequentialSampler, RandomSampler)),
                           (loader.batch_sampler, (BatchSampler, type(None)))):
        is_plain = type(sampler) in known and not getattr(sampler, "replacement", False)
        if not is_plain or len(loader.sampler) != len(loader.dataset):  # type: ignore[arg-type]
            raise UsageError(
                f"the {name} split is a DataLoader with a {type(sampler).__name__} that selects or "
                "repeats samples, which would be ignored, because Edgewright makes the batches "
                "itself; pass a dataset of the samples to use, or class_weights in the goal")


def _stack(parts: Sequence[Any]) -> Any:
    return None if all(part is None for part in parts) else default_collate(list(parts))


def _as_arrays(value: Any) -> Any:
    """A target or an input with tensors instead of lists of numbers, as Hugging Face has them."""
    if isinstance(value, Mapping):
        return {name: _as_arrays(part) for name, part in value.items()}
    if isinstance(value, list):
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            return tuple(map(_as_arrays, value))
    if isinstance(value, tuple):
        return tuple(map(_as_arrays, value))
    return int(value) if isinstance(value, np.unsignedinteger) else value


def _describe(sample: object) -> str:
    if isinstance(sample, Tensor):
        return f"Tensor of shape {tuple(sample.shape)}"
    name = type(sample).__name__
    return f"{name} of length {len(sample)}" if isinstance(sample, tuple | list) else name
