"""Checks of a split's samples, and of two splits beside each other."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from edgewright.errors import DataError
from edgewright.task._split import Split
from edgewright.task._targets import target_lengths


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


def check_equal_lengths(inputs: tuple[Tensor, ...], targets: Any, name: str) -> None:
    """Raise if inputs and targets differ in length."""
    parts = target_lengths(targets)
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in inputs} | {n for n, _ in parts}
    if len(lengths) == 1:
        return
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
    count = parts[0][0] if parts else 0
    transposed = [tensor for tensor in inputs
                  if tensor.ndim > 1 and len(tensor) != count and count in tensor.shape]
    remedy = (f"; the first dimension must be the batch: transpose the input of shape "
              f"{tuple(transposed[0].shape)}, and transpose it back within the model"
              if transposed else "")
    raise DataError(f"the {name} split has inputs of shape {shapes} but targets of shape "
                    f"{', '.join(shape for _, shape in parts)}; their lengths must be "
                    f"equal{remedy}")


def _rank(signature: str) -> tuple[str, int]:
    """Dtype and number of dimensions of an input's signature."""
    return signature.partition(" ")[0], len(re.findall(r"\d+", signature.partition(" ")[2]))


def check_same_signature(reference: Split, other: Split) -> None:
    """Raise if samples of two splits differ in the shapes or dtypes of their inputs.

    Sizes may differ if the user's own collate function makes the batches: it may pad each.

    Raises:
        DataError: The message names both splits, shapes and dtypes.
    """
    first, second = reference.input_signature(), other.input_signature()
    if reference.varies_sizes and list(map(_rank, first)) == list(map(_rank, second)):
        return
    if first != second:
        raise DataError(f"a sample of the {other.name} split is {' and '.join(second)}, but one "
                        f"of the {reference.name} split is {' and '.join(first)}; a model needs "
                        "the same shapes and types: prepare both splits in the same way")
