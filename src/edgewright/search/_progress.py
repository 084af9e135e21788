"""The phases of a search: shown while they run, and timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, final, get_args

from edgewright.core import format_metric, format_size
from edgewright.pipeline import OverallProgress, RunLog
from edgewright.search._store import TrialStore
from edgewright.search._time_budget import TimeBudget
from edgewright.search._trial import Trial, find_front

Phase = Literal["prepare", "sensitivities", "race", "training", "verify"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


@final
class SearchProgress:
    """Shows phase, best file and time left, and stores the time used.

    Args:
        shown: Where it is shown.
        time: The search's time.
        store: Where the seconds of the search and of its phases are kept.
    """

    def __init__(self, shown: OverallProgress, time: TimeBudget, store: TrialStore) -> None:
        self._shown, self._time, self._store = shown, time, store
        self._phase: Phase = "prepare"
        self._since = store.seconds

    @classmethod
    @contextmanager
    def open(cls, log: RunLog, time: TimeBudget, store: TrialStore) -> Iterator[SearchProgress]:
        """Show the progress until the block is left."""
        with log.overall(PHASES, time.seconds, lambda: time.used) as shown:
            progress = cls(shown, time, store)
            try:
                yield progress
            finally:
                progress.save()

    def begin(self, phase: Phase, detail: str = "") -> None:
        """Show that a phase, or the next part of it, begins."""
        self.save()
        self._phase = phase
        self._shown.begin(phase, detail)

    def show_best(self, best: Trial, trials: list[Trial]) -> None:
        """Show the best file so far, and how many files are on the front of all."""
        metric = best.figures.metric
        score = "" if metric is None else (f"{format_metric(metric.spec, metric.value)} (val), ")
        self._shown.show_best(f"{score}{format_size(best.figures['size_bytes'])}, front of "
                              f"{len(find_front(trials))}")

    def save(self) -> None:
        """Store the time used up to now."""
        used = self._time.used
        self._store.add_seconds(self._phase, used - self._since)
        self._store.seconds = self._since = used
