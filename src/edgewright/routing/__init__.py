"""Learn which branch of a model each sample takes."""

from edgewright.routing._config import Routing
from edgewright.routing._route import route

__all__ = ["Routing", "route"]
