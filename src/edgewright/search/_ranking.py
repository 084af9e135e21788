"""Which of the measured candidates is the best."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import final

from edgewright.core import Budget, Figures, format_metric, format_size
from edgewright.search._latencies import structure_of
from edgewright.search._metric_limits import MetricLimits
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial


@final
@dataclass(frozen=True)
class Ranking:
    """Ranks trials by a budget.

    Attributes:
        budget: The limits.
        original: The original's figures on the test split, with its latency.
        store: All trials.
        metric_limits: How to rank if the budget limits no cost; None if it does.
    """

    budget: Budget
    original: Figures
    store: TrialStore
    metric_limits: MetricLimits | None = None

    def rank(self, trials: list[Trial], *, slack: float = 0.0) -> list[Trial]:
        """The best first: those within the limits on costs by score, then the nearest misses.

        Of equal scores, the smaller and then the faster file is better. If no cost is limited, the
        smallest file within the limits on metrics is best.

        Args:
            trials: The trials.
            slack: By how much of a limit on costs a trial may exceed it and still count as within.
        """
        if self.metric_limits is not None:
            return sorted(trials, key=self.metric_limits.order)
        known = self.store.trials()
        return sorted(trials, key=lambda trial: (
            max(1.0 + slack, self.cost_ratio(trial, known)), -trial.score,
            trial.figures["size_bytes"], trial.figures["latency_ms"]))

    def cost_ratio(self, trial: Trial, known: list[Trial] | None = None) -> float:
        """The largest ratio of a cost to its limit, with the latency of all alike trials.

        Files that differ only in their training and bits take the same time, so that the median
        over them is less noisy than each.

        Args:
            trial: The trial.
            known: All trials; None reads them from the store.
        """
        known = self.store.trials() if known is None else known
        alike = [trial.figures["latency_ms"], *(
            other.figures["latency_ms"] for other in known
            if other.name != trial.name and structure_of(other) == structure_of(trial))]
        latency = trial.figures.find("latency_ms")
        figures = trial.figures if latency is None else trial.figures.with_(
            latency.replace(value=statistics.median(alike)))
        return trial.replace(figures=figures).cost_ratio(self.budget, self.original)

    def tell(self, trial: Trial) -> None:
        """Tell the store how good a proposal's first trial is."""
        if self.metric_limits is None:
            self.store.tell(trial, trial.score, self.cost_ratio(trial) - 1)
        else:
            self.store.tell(trial, -math.log(trial.figures["size_bytes"]),
                            self.metric_limits.excess(trial))

    def describe(self, trial: Trial) -> str:
        """A trial's figures in one line."""
        metric, ratio = trial.figures.metric, self.cost_ratio(trial)
        shown = "" if metric is None else (f"{metric.name} "
                                           f"{format_metric(metric.spec, metric.value)} (val), ")
        return (f"{trial.name}: {shown}{format_size(trial.figures['size_bytes'])}, "
                f"{trial.figures['latency_ms']:.3g} ms"
                f"{'' if ratio <= 1 else f', {100 * (ratio - 1):.1f} % over a limit'}")
