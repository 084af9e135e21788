"""Pruning: fewer channels, for real."""

from edgewright.prune._config import ChannelPruning
from edgewright.prune._prune import prune

__all__ = ["ChannelPruning", "prune"]
