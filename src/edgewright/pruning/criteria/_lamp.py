"""LAMP: a channel's magnitude relative to the channels of its group that are no smaller."""

from __future__ import annotations

import numpy as np

from edgewright.pruning.criteria._magnitude import magnitude
from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector


def lamp(context: ScoringContext) -> Vector:
    """Fraction of a channel in the summed squared norms of all channels that are no smaller.

    ``m_c / sum over c' with m_c' >= m_c of m_c'``: Lee et al. 2021, eq. 3, with a channel's
    `magnitude` over its coupled group in place of one squared weight, and the group in place of the
    layer. The largest channel of every group scores 1, so scores can be compared across groups
    without normalization. Equal channels are ranked in their order, as in the paper; a channel
    whose weights are all zero scores 0.
    """
    scores = np.zeros(context.channel_count)
    magnitudes = magnitude(context)
    for span in context.spans:
        order = np.argsort(magnitudes[span], kind="stable")
        ascending = magnitudes[span][order]
        remaining = np.cumsum(ascending[::-1])[::-1]
        scores[span.start + order] = np.divide(ascending, remaining, where=remaining != 0,
                                               out=np.zeros_like(ascending))
    return scores
