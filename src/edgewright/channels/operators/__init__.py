"""How channel labels propagate through each operator; see `propagate`."""

from edgewright.channels.operators._label_tracker import Labels
from edgewright.channels.operators._rules import propagate, resize

__all__ = [
    "Labels",
    "propagate",
    "resize",
]
