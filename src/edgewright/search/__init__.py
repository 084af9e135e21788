"""From a budget to an allocation: how much to remove, and where."""

from edgewright.search._allocate import allocate_channels, smallest
from edgewright.search._plan import Plan, plan_ratio

__all__ = ["Plan", "allocate_channels", "plan_ratio", "smallest"]
