"""Early exits: easy inputs leave the network before its end."""

from edgewright.exits._attach import add_exits, possible_exits
from edgewright.exits._config import EarlyExits
from edgewright.exits._thresholds import NEVER, Thresholds, choose_thresholds

__all__ = ["NEVER", "EarlyExits", "Thresholds", "add_exits", "choose_thresholds",
           "possible_exits"]
