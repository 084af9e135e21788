"""Importance scores of channels: one family of criteria per file, one interface for all."""

from edgewright.pruning.criteria._score import CRITERIA, score_channels
from edgewright.pruning.criteria._scoring_context import Criterion, ScoringContext

__all__ = [
    "CRITERIA",
    "Criterion",
    "ScoringContext",
    "score_channels",
]
