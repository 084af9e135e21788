"""The operator that selects, by the input, which of several branches has the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

_LIBRARY: Final = torch.library.Library("edgewright", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "route(Tensor index, Tensor[] outputs) -> Tensor")


def _select(index: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """The selected outputs; only these get a gradient."""
    result = outputs[0]
    for number, output in enumerate(outputs[1:], start=1):
        is_taken = index == number
        shape = (*is_taken.shape, *(1,) * (output.ndim - is_taken.ndim))
        result = torch.where(is_taken.reshape(shape), output, result)
    return result


# Implicit: exporters that do not know the operator decompose it into comparisons and selections.
_LIBRARY.impl(  # type: ignore[no-untyped-call]
    "route", _select, "CompositeImplicitAutograd")

ROUTE: Final = torch.ops.edgewright.route.default
"""Called with an index and one output per branch, all of one shape (N, ...) and dtype.

The index is int64: () is one decision for the whole call, (N,) one per sample. The result is
``outputs[index]``, sample by sample. In a graph every branch is computed, so that training, pruning
and quantization see ordinary calls; a bundle runs only the branch taken. The user guarantees that
the index is at least 0 and below the number of outputs.

Example:
    >>> index, outputs = torch.tensor([1, 0]), [torch.zeros(2, 3), torch.ones(2, 3)]
    >>> ROUTE(index, outputs).tolist()
    [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
"""
