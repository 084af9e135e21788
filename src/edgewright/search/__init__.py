"""Searching for the best file under a budget: candidates from the joint program, raced as files."""

from edgewright.search._compress import compress
from edgewright.search._config import Search
from edgewright.search._front import FrontEntry, compare_with_predictions, pick, read_front

__all__ = [
    "FrontEntry",
    "Search",
    "compare_with_predictions",
    "compress",
    "pick",
    "read_front",
]
