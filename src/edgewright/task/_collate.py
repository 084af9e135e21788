"""Make a batch of samples: pairs, or dicts of inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from edgewright.errors import DataError, UsageError


@final
@dataclass(frozen=True)
class Collate:
    """From a list of samples to (inputs, targets), with errors that name the split.

    A class and not a closure, so that worker processes can unpickle it.

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

    def __call__(self, samples: list[Any]) -> tuple[Any, Any]:
        if self.collate_fn is not None:
            return self._from_user(self.collate_fn(samples))
        pairs = [self._split(sample) for sample in samples]
        try:
            inputs = default_collate([pair[0] for pair in pairs])
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"samples of the {self.name} split do not form a batch: {error}"
                            ) from error
        return inputs, collate_targets([pair[1] for pair in pairs])

    def _from_user(self, batch: Any) -> tuple[Any, Any]:
        if isinstance(batch, Mapping):
            return self._split(batch)
        if isinstance(batch, tuple | list) and len(batch) == 2:
            return batch[0], batch[1]
        raise DataError(f"the collate function of the {self.name} split returned a "
                        f"{_describe(batch)}; expected (inputs, targets) or a dict")

    def _split(self, sample: Any) -> tuple[Any, Any]:
        """Inputs and targets of a sample, or of a batch that is a dict."""
        if isinstance(sample, Mapping):
            return self._split_mapping(sample)
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise DataError(f"a sample of the {self.name} split is a {_describe(sample)}; "
                            "expected a pair (input, target) or a dict")
        return sample[0], sample[1]

    def _split_mapping(self, sample: Mapping[str, Any]) -> tuple[Any, Any]:
        if self.input_names is None:
            raise DataError(f"a sample of the {self.name} split is a dict with "
                            f"{', '.join(map(str, sample))}; say which entries are the model's "
                            "inputs, in the order of its arguments: Task(..., inputs=(...))")
        if missing := [name for name in self.input_names if name not in sample]:
            raise DataError(f"a sample of the {self.name} split has no {', '.join(missing)}; it "
                            f"has {', '.join(map(str, sample))}")
        inputs = tuple(_as_array(sample[name]) for name in self.input_names)
        rest = {name: _as_array(value) for name, value in sample.items()
                if name not in self.input_names}
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
    if all(target is None for target in targets):
        return None
    targets = [pytree.tree_map_only(np.unsignedinteger, int, target) for target in targets]
    try:
        return default_collate(targets)
    except (RuntimeError, TypeError, ValueError):
        return [pytree.tree_map_only((np.ndarray, int, float), torch.as_tensor, target)
                for target in targets]


def check_sampler(loader: DataLoader[Any], name: str) -> None:
    """Check that a DataLoader's sampler does not change which samples are seen.

    Raises:
        UsageError: It does; batches are made here, so it would be ignored.
    """
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, SequentialSampler | RandomSampler):
        raise UsageError(f"the {name} split is a DataLoader with a {type(sampler).__name__}, which "
                         "would be ignored, because Edgewright makes the batches itself; pass a "
                         "dataset of the samples to use, or class_weights in the goal")


def _as_array(value: Any) -> Any:
    """Lists of numbers, as Hugging Face datasets hold them, as a tensor."""
    return torch.as_tensor(value) if isinstance(value, list) else value


def _describe(sample: object) -> str:
    if isinstance(sample, Tensor):
        return f"Tensor of shape {tuple(sample.shape)}"
    name = type(sample).__name__
    return f"{name} of length {len(sample)}" if isinstance(sample, tuple | list) else name
