"""Sums over everything a channel is sliced from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from edgewright.pruning.criteria._subject import Subject, Vector


def sum_over_slices(subject: Subject, values: Callable[[str], Tensor],
                    after: Callable[[Vector], Vector] | None = None) -> Vector:
    """For every channel the sum of ``values`` over its slices of all parameters.

    A weight that a channel reaches along two dimensions (a square matrix from a stream onto
    itself) counts along both.

    Args:
        subject: What is judged.
        values: From a parameter's name to one value for each of its weights.
        after: Element-wise, applied to a slice's sum before the tensors are added up.
    """
    total = np.zeros(subject.count)
    for name in subject.parameters:
        dims = [dim for place, dim in subject.places if place == name]
        if not dims:
            continue
        each = values(name)
        for dim in dims:
            sums = subject.places[name, dim].gather(over_others(each, dim)).numpy()
            total += sums if after is None else after(sums)
    return total


def over_others(values: Tensor, dim: int) -> Tensor:
    """The sum over every dimension but one: (size of ``dim``,), float64."""
    others = [d for d in range(values.ndim) if d != dim]
    return (values.sum(dim=others) if others else values).double()
