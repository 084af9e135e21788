"""Convert users' arrays to tensors that a model accepts, or raise a `DataError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.errors import DataError
from edgewright.task._collate import collate_targets

_NUMBERS: Final = "biufc"  # numpy's kinds of boolean, integer, float and complex numbers
_UNSIGNED: Final = frozenset({torch.uint16, torch.uint32, torch.uint64})


def as_tensor(data: Tensor | NDArray[Any], what: str) -> Tensor:
    """Convert an array of numbers to a tensor, copied only if torch cannot share its memory.

    Args:
        data: A tensor or an array.
        what: Name used in error messages ("the inputs of the train split").

    Raises:
        DataError: An array of objects, strings or dates; a sparse or a meta tensor.
    """
    if isinstance(data, np.ndarray):
        if data.dtype.kind not in _NUMBERS:
            kind = "objects, such as rows of different lengths" if data.dtype.hasobject else (
                f"{data.dtype}")
            raise DataError(f"{what} are an array of {kind}; expected one numeric array: pad or "
                            "crop the samples to one shape, and number the classes from 0")
        is_shared = data.dtype.isnative and all(stride >= 0 for stride in data.strides)
        return torch.as_tensor(data if is_shared else np.array(data, data.dtype.newbyteorder("=")))
    if data.is_meta or data.layout is not torch.strided:
        place = "on the meta device" if data.is_meta else f"stored as {short_name(data.layout)}"
        raise DataError(f"{what} are {place}; expected a dense tensor that holds values")
    return data.detach()


def as_targets(targets: Any, name: str) -> Any:
    """Convert every array of the targets to a tensor; dicts and tuples keep their structure.

    Args:
        targets: A tensor or an array, a dict or tuple of them with one row per sample, a list with
            one target per sample, which are stacked if they are of one size, or None.
        name: Name of the split.

    Raises:
        DataError: Something is neither.
    """
    if targets is None:
        return None
    if isinstance(targets, Mapping):
        return {str(key): as_targets(part, name) for key, part in targets.items()}
    if isinstance(targets, tuple):
        return tuple(as_targets(part, name) for part in targets)
    if isinstance(targets, list):
        return collate_targets(targets)
    if isinstance(targets, Tensor | np.ndarray):
        return as_tensor(targets, f"the targets of the {name} split")
    raise DataError(f"the targets of the {name} split are a {type(targets).__name__}; expected a "
                    "tensor or an array, a dict or tuple of them, or None")


def as_input(tensor: Tensor, name: str) -> Tensor:
    """Convert an input to a supported dtype: floating point to float32, wide unsigned to int64.

    Raises:
        DataError: Complex numbers.
    """
    if tensor.is_complex():
        raise DataError(f"an input of the {name} split is {short_name(tensor.dtype)}; give its "
                        "real and imaginary part as two channels")
    if tensor.dtype in _UNSIGNED:
        return tensor.long()
    return tensor.float() if tensor.is_floating_point() else tensor


def short_name(kind: torch.dtype | torch.layout) -> str:
    """The name of a dtype or layout without the ``torch.`` prefix."""
    return str(kind).removeprefix("torch.")
