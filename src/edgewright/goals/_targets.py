"""Checks of targets that several goals share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgewright.errors import DataError
from edgewright.goals._origin import Origin


def as_indices(targets: Any, origin: Origin, dims: int | None, what: str) -> Tensor:
    """Check that targets are integer class indices with ``dims`` dimensions; convert to int64.

    Args:
        targets: The targets.
        origin: Where they come from.
        dims: Expected number of dimensions; None for any.
        what: What is expected, in words.

    Raises:
        DataError: They are missing, not integers, or of another rank.
    """
    tensor = as_target_tensor(targets, origin, what)
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex():
        raise DataError(f"{origin.targets} are {_dtype(tensor)}; expected integers, {what} "
                        "(argmax(1) of one-hot rows, long() of whole numbers)")
    if dims is not None and tensor.ndim != dims:
        raise DataError(f"{origin.targets} have shape {tuple(tensor.shape)}; expected {what}, "
                        f"shape {_shape_words(dims)}")
    return tensor.long()


def as_answers(targets: Any, origin: Origin, what: str) -> Tensor:
    """Check that targets are 0 or 1, of any type, and convert them to float32.

    Raises:
        DataError: One is neither.
    """
    tensor = as_target_tensor(targets, origin, what).float()
    wrong = (tensor != 0) & (tensor != 1)
    if wrong.any():
        position = _first_sample(wrong)
        raise DataError(f"{origin.sample(position)} has a target that is neither 0 nor 1: "
                        f"{_first(tensor[position])}; expected {what}")
    return tensor


def as_values(targets: Any, origin: Origin, what: str) -> Tensor:
    """Check that targets are finite real numbers and convert them to float32.

    Raises:
        DataError: They are not.
    """
    tensor = as_target_tensor(targets, origin, what)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise DataError(f"{origin.targets} are {_dtype(tensor)}; expected {what}")
    tensor = tensor.float()
    finite = torch.isfinite(tensor)
    if not finite.all():
        position = _first_sample(~finite)
        raise DataError(f"the target of {origin.sample(position)} holds NaN or infinity; remove "
                        "or fix it")
    return tensor


def as_target_tensor(targets: Any, origin: Origin, what: str) -> Tensor:
    """Check that targets are one tensor with one entry per sample.

    Raises:
        DataError: There are none, or they are not one tensor.
    """
    if targets is None:
        raise DataError(f"the {origin.split} split has no targets; expected {what}")
    if not isinstance(targets, Tensor):
        names = f" of {', '.join(map(str, targets))}" if isinstance(targets, Mapping) else ""
        raise DataError(f"{origin.targets} are a {type(targets).__name__}{names}; expected one "
                        f"tensor, {what}")
    return targets


def list_targets(targets: Any, samples: int) -> Any:
    """Targets of a batch as a list with one per sample, also if they could be stacked.

    Example:
        >>> import torch
        >>> list_targets({"a": torch.tensor([1, 2])}, 2)
        [{'a': tensor(1)}, {'a': tensor(2)}]
    """
    if targets is None or isinstance(targets, list):
        return targets
    if isinstance(targets, Mapping):
        parts = [list_targets(part, samples) or [None] * samples for part in targets.values()]
        return [dict(zip(targets, row, strict=True)) for row in zip(*parts, strict=True)]
    if isinstance(targets, tuple):
        return list(zip(*(list_targets(part, samples) or [None] * samples for part in targets),
                        strict=True))
    return list(targets)


def check_indices(targets: Tensor, classes: int | None, origin: Origin,
                  ignored: int | None = None) -> None:
    """Check that class indices are in 0..classes-1 (0 or more without ``classes``).

    Args:
        targets: Class indices (N, ...).
        classes: Number of classes that the model distinguishes, if known; those that the task names
            bound the indices too.
        origin: Where they come from.
        ignored: An index that is allowed, too.

    Raises:
        DataError: One is outside; the message names the sample.
    """
    classes = min((count for count in (classes, origin.classes) if count is not None), default=None)
    wrong = targets < 0
    if classes is not None:
        wrong |= targets >= classes
    if ignored is not None:
        wrong &= targets != ignored
    if not wrong.any():
        return
    position = _first_sample(wrong)
    label = int(targets[position][wrong[position]].flatten()[0])
    allowed = "0 or more" if classes is None else f"0..{classes - 1}"
    raise DataError(f"{origin.sample(position)} has label {label}; allowed: {allowed}")


def check_target_shape(targets: Tensor, expected: tuple[int, ...], origin: Origin) -> None:
    """Check that the targets have the shape that the outputs ask for.

    Args:
        targets: (N, ...).
        expected: Sizes after the batch.
        origin: Where they come from.

    Raises:
        DataError: They have another one.
    """
    if tuple(targets.shape[1:]) != expected:
        raise DataError(f"{origin.targets} have shape {_batch_shape(targets.shape[1:])}, but the "
                        f"model's prediction asks for {_batch_shape(expected)}")


def _first_sample(wrong: Tensor) -> int:
    """Position of the first sample with a wrong value."""
    return int(wrong.nonzero()[0, 0])


def _shape_words(dims: int) -> str:
    return {1: "(N,)", 2: "(N, length)", 3: "(N, height, width)"}.get(dims, f"with {dims} axes")


def _batch_shape(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(['N', *map(str, sizes)])}{',' * (not sizes)})"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first(values: Tensor) -> float:
    flat = values.flatten()
    return float(flat[(flat != 0) & (flat != 1)][0])
