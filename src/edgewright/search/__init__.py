"""Searching for the best file under a budget: candidates from the joint program, raced as files."""

from edgewright.search._compress import compress, plan
from edgewright.search._config import Search
from edgewright.search._front import (
    FrontEntry,
    compare_with_predictions,
    pick,
    read_front,
    read_race,
)
from edgewright.search._searcher import SearchPlan
from edgewright.search._trial import Trial

__all__ = [
    "FrontEntry",
    "Search",
    "SearchPlan",
    "Trial",
    "compare_with_predictions",
    "compress",
    "pick",
    "plan",
    "read_front",
    "read_race",
]
