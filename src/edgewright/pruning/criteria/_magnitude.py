"""Criteria by the size of the weights, gathered over everything a channel is sliced from."""

from __future__ import annotations

import numpy as np

from edgewright.pruning.criteria._slices import sum_over_slices
from edgewright.pruning.criteria._subject import Subject, Vector


def magnitude(subject: Subject) -> Vector:
    """Squared L2 norm of all weights a channel is sliced from.

    ``sum over T of sum over w in T_c of w^2``, T_c the slice of tensor T (weights, biases, scales
    and shifts). Li et al. 2017 look at the filter alone; the sum over the coupled group is Fang
    et al. 2023 (DepGraph), without its division by the number of tensors, which is the same for
    all channels of a group.
    """
    return sum_over_slices(subject, lambda name: subject.weight(name).square())


def l1(subject: Subject) -> Vector:
    """L1 norm of all weights a channel is sliced from.

    ``sum over T of |T_c|_1``: Li et al. 2017, over the coupled group instead of one filter.
    """
    return sum_over_slices(subject, lambda name: subject.weight(name).abs())


def l2(subject: Subject) -> Vector:
    """The L2 norms of a channel's slices, added up.

    ``sum over T of |T_c|_2``: the penalty of a group lasso (Wen et al. 2016). A tensor counts by
    its norm, not by the norm's square as in `magnitude`.
    """
    return sum_over_slices(subject, lambda name: subject.weight(name).square(), after=np.sqrt)
