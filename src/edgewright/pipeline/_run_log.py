"""The progress of a run, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console

from edgewright.core import Figures, format_count, format_metric, format_size
from edgewright.pipeline._overall import OverallProgress
from edgewright.training import NoProgress, OpenLog, Progress, RichProgress, TrackingProgress


@final
class RunLog:
    """Logs one line per stage, and shows a bar during each training.

    Args:
        quiet: Print nothing.
        open_log: Opens a log for each training; see `edgewright.training.open_experiment_tracker`.
    """

    def __init__(self, quiet: bool = False, open_log: OpenLog | None = None) -> None:
        self._quiet, self._open_log = quiet, open_log
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._overall: OverallProgress | None = None

    @contextmanager
    def overall(self, phases: tuple[str, ...], seconds: float,
                used: Callable[[], float]) -> Iterator[OverallProgress]:
        """Show the progress of a whole search besides that of its parts.

        Args:
            phases: Names of all phases, in order.
            seconds: The time for all of them.
            used: The time used so far.
        """
        self._overall = OverallProgress(self._console, phases, seconds, used)
        try:
            yield self._overall
        finally:
            self._overall.close()
            self._overall = None

    def begin(self, stage: str, what: str = "") -> None:
        """Log that a stage starts."""
        self._console.print(f"[bold]{stage}[/bold] {what}".rstrip())
        if self._overall is not None:
            self._overall.show_activity(stage)

    def note(self, text: str) -> None:
        """Log a message about a stage."""
        self._console.print(f"  {text}", markup=False)

    def end(self, seconds: float, figures: Figures, resumed: bool = False) -> None:
        """Log that a stage is over, with its figures."""
        parts = []
        if (metric := figures.metric) is not None:
            parts.append(f"{metric.name} {format_metric(metric.spec, metric.value)} "
                         f"({metric.split})")
        if (macs := figures.get("macs")) is not None:
            parts.append(f"{format_count(macs)} MACs")
        if (size := figures.get("size_bytes")) is not None:
            parts.append(f"weights {format_size(size)}")
        parts.append("already done" if resumed else f"{seconds:.1f} s")
        self.note(", ".join(parts))

    def progress(self, stage: str) -> Progress:
        """Return the progress display of a training, which also logs its metrics if enabled."""
        shown = NoProgress() if self._quiet else RichProgress(
            stage, lines=True, console=self._console,
            display=None if self._overall is None else self._overall.bar)
        return shown if self._open_log is None else TrackingProgress(shown, self._open_log, stage)
