"""Pruning: fewer channels, for real."""

from edgewright.pruning._config import ChannelPruning
from edgewright.pruning._prune import prune

__all__ = ["ChannelPruning", "prune"]
