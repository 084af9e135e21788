"""Sums over all slices of a channel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector


def sum_over_slices(context: ScoringContext, values: Callable[[str], Tensor],
                    transform: Callable[[Vector], Vector] | None = None) -> Vector:
    """Sum ``values`` over each channel's slices of all parameters.

    A weight whose two dimensions are both sliced by a channel (a square matrix that maps a residual
    stream to itself) is counted along both.

    Args:
        context: The channels and the parameters.
        values: Maps a parameter's name to one value for each of its weights.
        transform: Element-wise function, applied to the sum of each slice before the sums of
            different tensors are added.
    """
    total = np.zeros(context.channel_count)
    for name in context.parameters:
        dims = [dim for tensor, dim in context.incidences if tensor == name]
        if not dims:
            continue
        tensor_values = values(name)
        for dim in dims:
            incidence = context.incidences[name, dim]
            sums = incidence.gather(sum_other_dims(tensor_values, dim)).numpy()
            total += sums if transform is None else transform(sums)
    return total


def sum_other_dims(values: Tensor, dim: int) -> Tensor:
    """The sum over all dimensions except ``dim``: (size of ``dim``,), float64."""
    others = [d for d in range(values.ndim) if d != dim]
    return (values.sum(dim=others) if others else values).double()
