"""How important a channel is: one criterion family a file, one interface for all."""

from edgewright.pruning.criteria._score import CRITERIA, score_channels
from edgewright.pruning.criteria._subject import Criterion, Subject

__all__ = [
    "CRITERIA",
    "Criterion",
    "Subject",
    "score_channels",
]
