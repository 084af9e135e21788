"""Criteria based on the size of the weights in all slices of a channel."""

from __future__ import annotations

import numpy as np

from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector
from edgewright.pruning.criteria._slice_sums import sum_over_slices


def magnitude(context: ScoringContext) -> Vector:
    """Squared L2 norm of all weights in a channel's slices.

    ``sum over T of sum over w in T_c of w^2``, where T_c is the slice of tensor T (weights, biases,
    scales and shifts). Li et al. 2017 use the filter alone; the sum over the coupled group is from
    Fang et al. 2023 (DepGraph), without its division by the number of tensors, which is the same
    for all channels of a group.
    """
    return sum_over_slices(context, lambda name: context.weight(name).square())


def l1(context: ScoringContext) -> Vector:
    """L1 norm of all weights in a channel's slices.

    ``sum over T of |T_c|_1``: Li et al. 2017, over the coupled group instead of one filter.
    """
    return sum_over_slices(context, lambda name: context.weight(name).abs())


def l2(context: ScoringContext) -> Vector:
    """Sum of the L2 norms of a channel's slices.

    ``sum over T of |T_c|_2``: the penalty of a group lasso (Wen et al. 2016). Each tensor adds its
    norm, not the square of its norm as in `magnitude`.
    """
    return sum_over_slices(context, lambda name: context.weight(name).square(), transform=np.sqrt)
