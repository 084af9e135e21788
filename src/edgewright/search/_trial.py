"""One measured candidate."""

from __future__ import annotations

from typing import final

from edgewright.core import COSTS, Budget, Figures
from edgewright.pipeline import ExitChoice
from edgewright.search._candidate import Candidate


@final
class Trial(Candidate):
    """A candidate that was built, exported and measured, without the test split.

    Attributes:
        figures: Measured on its file: metrics on the validation split, size, latency.
        score: What candidates are compared by; higher is better.
        seconds: Time that building and measuring took.
        timing_seconds: The part of it in which the latency was measured.
        exits: What its file decided about its exits; None without any.
    """

    figures: Figures
    score: float
    seconds: float
    timing_seconds: float = 0.0
    exits: ExitChoice | None = None

    def cost_ratio(self, budget: Budget, original: Figures) -> float:
        """The largest ratio of a cost to its limit; above 1 if a limit is exceeded.

        Limits on metrics are not considered.

        Example:
            >>> from edgewright.core import Measurement
            >>> from edgewright.pipeline import Recipe
            >>> figures = Figures.of(Measurement(name="size_bytes", value=300, kind="measured"))
            >>> trial = Trial(name="a", recipe=Recipe(), figures=figures, score=0.9, seconds=1.0)
            >>> trial.cost_ratio(Budget(size="200 B"), figures)
            1.5
        """
        return max((_ratio(self.figures.get(limit.figure.name), limit.bound)
                    for limit in budget.limits(original).values() if limit.figure.name in COSTS),
                   default=0.0)


def _ratio(value: float | None, bound: float) -> float:
    if value is None:
        return float("inf")
    return value / bound if bound else float("inf") if value else 0.0


def find_front(trials: list[Trial]) -> list[Trial]:
    """The trials that no other dominates in size, latency and score, the smallest first.

    Example:
        >>> from edgewright.core import Measurement
        >>> from edgewright.pipeline import Recipe
        >>> def at(name, size, score):
        ...     size = Measurement(name="size_bytes", value=size, kind="measured")
        ...     return Trial(name=name, recipe=Recipe(), figures=Figures.of(size), score=score,
        ...                  seconds=1)
        >>> front = find_front([at("large", 9, 0.9), at("worse", 9, 0.8), at("small", 3, 0.7)])
        >>> [trial.name for trial in front]
        ['small', 'large']
    """
    return sorted((trial for trial in trials
                   if not any(_dominates(other, trial) for other in trials)),
                  key=lambda trial: trial.figures["size_bytes"])


def _dominates(first: Trial, second: Trial) -> bool:
    pairs = [(_merits(first)[axis], _merits(second)[axis]) for axis in range(3)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _merits(trial: Trial) -> tuple[float, float, float]:
    size, latency = (trial.figures.get(name) or 0.0 for name in ("size_bytes", "latency_ms"))
    return -size, -latency, trial.score
