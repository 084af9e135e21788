"""What a run says while it works, on stderr."""

from __future__ import annotations

from typing import final

from rich.console import Console

from edgewright.core import Figures, format_count, format_size
from edgewright.training import NoProgress, OpenLog, Progress, RichProgress, Tracked


@final
class Narrator:
    """One line a stage, and a bar while something trains.

    Args:
        quiet: Say nothing.
        open_log: Keeps every training's figures; see `edgewright.training.tracker`.
    """

    def __init__(self, quiet: bool = False, open_log: OpenLog | None = None) -> None:
        self._quiet, self._open_log = quiet, open_log
        self._console = Console(stderr=True, quiet=quiet, highlight=False)

    def begin(self, stage: str, what: str = "") -> None:
        """A stage starts."""
        self._console.print(f"[bold]{stage}[/bold] {what}".rstrip())

    def note(self, text: str) -> None:
        """Something worth knowing happened."""
        self._console.print(f"  {text}", markup=False)

    def end(self, seconds: float, figures: Figures, resumed: bool = False) -> None:
        """A stage is over."""
        parts = []
        accuracy = figures.find("accuracy")
        if accuracy is not None:
            parts.append(f"accuracy {accuracy.value:.2%} ({accuracy.split})")
        if (macs := figures.get("macs")) is not None:
            parts.append(f"{format_count(macs)} MACs")
        if (size := figures.get("size_bytes")) is not None:
            parts.append(f"weights {format_size(size)}")
        parts.append("kept from before" if resumed else f"{seconds:.1f} s")
        self.note(", ".join(parts))

    def progress(self, stage: str) -> Progress:
        """Shows a training, and keeps its figures where that was asked for."""
        shown = NoProgress() if self._quiet else RichProgress(stage, lines=True)
        return shown if self._open_log is None else Tracked(shown, self._open_log, stage)
