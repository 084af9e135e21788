"""Display the progress of a training run."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol, final

from edgewright.training._record import EpochRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar


class Progress(Protocol):
    """Receives every step of a training; `train` always calls ``stop`` at the end."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """A run of ``epochs`` epochs with ``steps`` steps each begins; ``done`` are complete.

        If the run resumes within an epoch, only the remaining steps are reported.
        """

    def advance(self, samples: int, loss: float) -> None:
        """One step is done; ``loss`` is the latest known loss."""

    def epoch(self, record: EpochRecord) -> None:
        """One epoch is done."""

    def note(self, text: str) -> None:
        """A message for the user."""

    def stop(self) -> None:
        """The run is over, successfully or not."""


@final
class NoProgress:
    """Shows nothing."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Shows nothing."""

    def advance(self, samples: int, loss: float) -> None:
        """Shows nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Shows nothing."""

    def note(self, text: str) -> None:
        """Shows nothing."""

    def stop(self) -> None:
        """Shows nothing."""


@final
class RichProgress:
    """A progress bar on a terminal; elsewhere nothing, or one line per epoch.

    Args:
        label: Name of the activity ("recover").
        lines: Write one line per epoch if the output is not a terminal.
        console: Where to write; None for stderr.
    """

    def __init__(self, label: str = "train", *, lines: bool = False,
                 console: Console | None = None) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to import

        self._console = Console(stderr=True) if console is None else console
        self._label = label
        self._lines = lines
        self._bar: Bar | None = None
        self._epochs = self._steps = 0
        self._done = 0
        self._samples = 0
        self._since = 0.0
        self._score = "-"

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Show the bar if the output is a terminal."""
        self._epochs, self._steps, self._done, self._score = epochs, steps, done, "-"
        self._start_clock()
        if self._console.is_terminal:
            self._bar = _bar(self._console)
            self._bar.add_task(self._heading(), total=epochs * steps, completed=done * steps,
                               status="")
            self._bar.start()

    def advance(self, samples: int, loss: float) -> None:
        """Move the bar by one step."""
        self._samples += samples
        if self._bar is None:
            return
        speed = self._samples / max(time.monotonic() - self._since, 1e-9)
        shown = "-" if math.isnan(loss) else f"{loss:.3f}"
        status = f"loss {shown}  val {self._score}  {speed:,.0f} samples/s"
        self._bar.update(self._bar.task_ids[0], advance=1, status=status,
                         description=self._heading())

    def epoch(self, record: EpochRecord) -> None:
        """Store the score; write a line if lines are enabled."""
        self._done = record.epoch
        if self._bar is not None:  # in a resumed epoch, only the remaining steps were reported
            self._bar.update(self._bar.task_ids[0], completed=record.epoch * self._steps)
        self._score = str(record.score)
        self._start_clock()
        if self._lines and self._bar is None:
            self._print(f"{self._label} {record.epoch}/{self._epochs}: loss {record.loss:.4f}, "
                        f"val {self._score}, {record.seconds:.1f} s")

    def note(self, text: str) -> None:
        """Write a line, on a terminal or if lines are enabled."""
        if self._lines or self._console.is_terminal:
            self._print(f"{self._label}: {text}")

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _heading(self) -> str:
        return f"{self._label} {min(self._done + 1, self._epochs)}/{self._epochs}"

    def _start_clock(self) -> None:
        self._samples, self._since = 0, time.monotonic()

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _bar(console: Console) -> Bar:
    from rich import progress  # noqa: PLC0415 - slow to import

    return progress.Progress(
        progress.TextColumn("{task.description}"), progress.BarColumn(),
        progress.TextColumn("{task.fields[status]}"), progress.TimeRemainingColumn(),
        console=console, transient=True)
