"""Searching for the best file under a budget: candidates from the joint program, raced as files."""

from edgewright.search._compress import compress
from edgewright.search._config import Search

__all__ = [
    "Search",
    "compress",
]
