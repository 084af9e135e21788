"""Random scores, the baseline for all other criteria."""

from __future__ import annotations

import numpy as np

from edgewright.pruning.criteria._scoring_context import ScoringContext, Vector


def random(context: ScoringContext) -> Vector:
    """Uniform random scores in [0, 1) that depend on the seed alone."""
    return np.random.default_rng(context.seed).random(context.channel_count)
