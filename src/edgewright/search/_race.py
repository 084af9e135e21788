"""How many candidates compete, and how long each is trained."""

from __future__ import annotations

from math import ceil
from typing import Final, final

from edgewright.core import Value

_SHORTEST: Final = 0.5  # training of the first round, as a share of the time to build a candidate


@final
class Round(Value):
    """One round of a race.

    Attributes:
        candidates: How many take part.
        training_seconds: For how long each is trained.
    """

    candidates: int
    training_seconds: float


def plan_race(seconds: float, build_seconds: float, *, candidates: int, survivors: int,
              workers: int = 1) -> list[Round]:
    """Plan the rounds of successive halving (Jamieson & Talwalkar 2016).

    All rounds take about the same time: a round has a share ``1 / survivors`` of the candidates of
    the one before, and trains each ``survivors`` times as long. There are as many candidates as
    allow the first round to train at least half as long as it takes to build a candidate.

    Args:
        seconds: Time of the race.
        build_seconds: Time to build and measure one candidate, without training.
        candidates: Largest number in the first round.
        survivors: One of this many survives a round.
        workers: How many candidates are built at once.

    Returns:
        The rounds, at least one; a single candidate without training if there is no time for a
        race.

    Example:
        >>> plan_race(1000, 10, candidates=9, survivors=3)
        [Round(candidates=9, training_seconds=48.9), Round(candidates=3, training_seconds=146.7)]
        >>> plan_race(10, 10, candidates=9, survivors=3)
        [Round(candidates=1, training_seconds=0.0)]
        >>> plan_race(1000, 10, candidates=9, survivors=3, workers=9)
        [Round(candidates=9, training_seconds=245.0), Round(candidates=3, training_seconds=735.0)]
    """
    for first in range(candidates, 1, -1):
        counts = [first]
        while counts[-1] // survivors >= 2:
            counts.append(counts[-1] // survivors)
        turns = [ceil(count / workers) for count in counts]
        builds = build_seconds * sum(turns)
        weights = sum(count * survivors ** place for place, count in enumerate(turns))
        training = (seconds - builds) / weights
        if training >= _SHORTEST * build_seconds:
            return [Round(candidates=count,
                          training_seconds=round(training * survivors ** place, 1))
                    for place, count in enumerate(counts)]
    return [Round(candidates=1, training_seconds=0.0)]
