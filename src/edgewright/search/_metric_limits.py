"""Limits on metrics alone: which of the files that keep them is the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from edgewright.core import Budget, Figures
from edgewright.search._trial import Trial


@final
@dataclass(frozen=True)
class MetricLimits:
    """Ranks candidates if a budget limits metrics and no cost: the smallest within the limits wins.

    A limit is on the test split, which selects nothing. So a candidate's metric is predicted: the
    original's on the test split minus what the candidate loses on the validation split. If the
    original has seen the validation samples, a candidate loses more on them than on others, so the
    prediction is cautious then.

    Attributes:
        budget: The limits.
        original: The original's figures on the test split.
        validated: The original's figures on the validation split.
    """

    budget: Budget
    original: Figures
    validated: Figures

    def excess(self, trial: Trial) -> float:
        """By how much the worst predicted metric misses its limit, in its unit; 0 if none does.

        Example:
            >>> from edgewright.core import Measurement
            >>> from edgewright.pipeline import Recipe
            >>> def accuracy(value):
            ...     return Figures.of(Measurement(name="accuracy", value=value, kind="measured",
            ...                                   higher_is_better=True))
            >>> limits = MetricLimits(Budget(max_drop="1 %"), accuracy(0.9), accuracy(0.98))
            >>> trial = Trial(name="a", recipe=Recipe(), figures=accuracy(0.95), score=0,
            ...               seconds=1)
            >>> round(limits.excess(trial), 3)
            0.02
        """
        worst = 0.0
        for limit in self.budget.limits(self.original).values():
            value = self._predict(trial, limit.figure.name)
            if not limit.holds(value):
                missed = float("inf") if value is None else abs(value - limit.bound)
                worst = max(worst, missed)
        return worst

    def order(self, trial: Trial) -> tuple[float, ...]:
        """The key that sorts the best first: within the limits, small, fast, with a high score."""
        return (self.excess(trial), trial.figures["size_bytes"], trial.figures["latency_ms"],
                -trial.score)

    def _predict(self, trial: Trial, metric: str) -> float | None:
        values = [figures.get(metric) for figures in (self.original, trial.figures, self.validated)]
        if any(value is None for value in values):
            return None
        tested, found, validated = (value or 0.0 for value in values)
        return tested + found - validated
