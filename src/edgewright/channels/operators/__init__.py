"""How channel labels propagate through each operator; see `propagate`."""

from edgewright.channels.operators._rules import propagate, resize
from edgewright.channels.operators._tracker import Labels

__all__ = [
    "Labels",
    "propagate",
    "resize",
]
