"""How each operator passes channel labels on; see `propagate`."""

from edgewright.channels.operators._rules import propagate, resize
from edgewright.channels.operators._tracker import Labels

__all__ = [
    "Labels",
    "propagate",
    "resize",
]
