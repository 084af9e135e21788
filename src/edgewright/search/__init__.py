"""Searching for the best file under a budget: candidates from the joint program, raced as files."""

from edgewright.search._compress import compress, plan
from edgewright.search._config import Search
from edgewright.search._pick import PickedFile, pick
from edgewright.search._publish import SearchInterrupted
from edgewright.search._record import read_race, read_record
from edgewright.search._searcher import SearchPlan
from edgewright.search._trial import Trial

__all__ = [
    "PickedFile",
    "Search",
    "SearchInterrupted",
    "SearchPlan",
    "Trial",
    "compress",
    "pick",
    "plan",
    "read_race",
    "read_record",
]
