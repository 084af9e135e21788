"""LAMP: a channel's magnitude among those of its group that are no smaller."""

from __future__ import annotations

import numpy as np

from edgewright.pruning.criteria._magnitude import magnitude
from edgewright.pruning.criteria._subject import Subject, Vector


def lamp(subject: Subject) -> Vector:
    """Share of a channel in the squared norm of all channels that outlive it.

    ``m_c / sum over c' with m_c' >= m_c of m_c'``: Lee et al. 2021, eq. 3, with a channel's
    `magnitude` over its coupled group in the place of one squared weight, and the group in the
    place of the layer. The largest of every group scores 1, so scores compare across groups
    as they are. Channels alike are put in their order, as in the paper; one without any weight
    scores 0.
    """
    scores = np.zeros(subject.count)
    sizes = magnitude(subject)
    for span in subject.spans:
        order = np.argsort(sizes[span], kind="stable")
        ascending = sizes[span][order]
        outliving = np.cumsum(ascending[::-1])[::-1]
        scores[span.start + order] = np.divide(ascending, outliving, where=outliving != 0,
                                               out=np.zeros_like(ascending))
    return scores
