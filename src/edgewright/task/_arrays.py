"""What users hand in as numbers, made tensors that a model can take; refused by name otherwise."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.errors import DataError

_NUMBERS: Final = "biufc"  # numpy's kinds of boolean, integer, float and complex numbers
_UNSIGNED: Final = frozenset({torch.uint16, torch.uint32, torch.uint64})


def as_tensor(data: Tensor | NDArray[Any], what: str) -> Tensor:
    """A tensor of an array of numbers, copied where torch cannot share its memory.

    Args:
        data: A tensor or an array.
        what: What error messages call it ("the inputs of the train split").

    Raises:
        DataError: An array of objects, strings or dates; a tensor that is sparse or holds nothing.
    """
    if isinstance(data, np.ndarray):
        if data.dtype.kind not in _NUMBERS:
            kind = "objects, such as rows of different lengths" if data.dtype.hasobject else (
                f"{data.dtype}")
            raise DataError(f"{what} are an array of {kind}; expected numbers in one array: pad or "
                            "cut the samples to one shape, and number the classes from 0")
        is_shared = data.dtype.isnative and all(stride >= 0 for stride in data.strides)
        return torch.as_tensor(data if is_shared else np.array(data, data.dtype.newbyteorder("=")))
    if data.is_meta or data.layout is not torch.strided:
        place = "on the meta device" if data.is_meta else f"stored as {plain(data.layout)}"
        raise DataError(f"{what} are {place}; expected a dense tensor that holds values")
    return data.detach()


def as_input(tensor: Tensor, name: str) -> Tensor:
    """An input in a type that models take: floating point as float32, large unsigned as int64.

    Raises:
        DataError: Complex numbers.
    """
    if tensor.is_complex():
        raise DataError(f"an input of the {name} split is {plain(tensor.dtype)}; give its real and "
                        "imaginary part as two channels")
    if tensor.dtype in _UNSIGNED:
        return tensor.long()
    return tensor.float() if tensor.is_floating_point() else tensor


def plain(kind: torch.dtype | torch.layout) -> str:
    """A type's or layout's name without the module it is in."""
    return str(kind).removeprefix("torch.")
