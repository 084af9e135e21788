"""Predicted costs, corrected by what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from edgewright.core import CONSTRAINTS, Budget, Figures
from edgewright.search._trial import Trial

_MARGIN: Final = 0.985  # what is aimed at, of a limit


def correct_limits(budget: Budget, original: Figures, trials: Sequence[Trial]) -> dict[str, float]:
    """The limits in predicted units: each limit times predicted over measured, with a margin.

    The ratio is that of the trial whose cost is nearest to the limit. A limit on energy becomes one
    on multiply-accumulates, which it is nearly proportional to.

    Args:
        budget: The limits.
        original: The original's figures.
        trials: The trials with predicted costs, at least one.
    """
    found: dict[str, float] = {}
    for name, limit in budget.limits(original).items():
        if name not in CONSTRAINTS:
            continue
        predicted = "macs" if name == "energy" else name
        figure = limit.figure.name
        pairs = _pairs(trials, predicted, figure)
        guess, measured = min(pairs, key=lambda pair: abs(pair[1] - limit.bound))
        bound = _MARGIN * limit.bound * guess / measured
        found[predicted] = min(bound, found.get(predicted, bound))
    return found


def compare_predictions(trials: Sequence[Trial],
                        figures: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Mean relative error and rank correlation of predicted against measured costs.

    Args:
        trials: The trials.
        figures: The measured figure of every predicted cost.

    Returns:
        For each cost that at least two trials have: mean of ``|predicted - measured| / measured``,
        and Spearman's rank correlation, nan if either does not vary.
    """
    from scipy.stats import spearmanr  # noqa: PLC0415 - slow to import

    found = {}
    for name, figure in figures.items():
        pairs = _pairs(trials, name, figure)
        if len(pairs) > 1:
            error = sum(abs(a - b) / b for a, b in pairs) / len(pairs)
            varies = all(len(set(values)) > 1 for values in zip(*pairs, strict=True))
            rank = spearmanr(*zip(*pairs, strict=True)).statistic if varies else math.nan
            found[name] = error, float(rank)
    return found


def _pairs(trials: Sequence[Trial], predicted: str, figure: str) -> list[tuple[float, float]]:
    """Predicted and measured costs of the trials that have both."""
    return [(trial.predicted[predicted], trial.figures[figure]) for trial in trials
            if predicted in trial.predicted and trial.figures.get(figure)]
