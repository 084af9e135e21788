"""Display the progress of a training run."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol, final

from edgewright.training._record import EpochRecord

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress(Protocol):
    """Receives every step of a training; `train` always calls ``stop`` at the end."""

    def start(self, epochs: int | None, steps: int, done: int) -> None:
        """A run of ``epochs`` epochs with ``steps`` steps each begins; ``done`` are complete.

        If the run resumes within an epoch, only the remaining steps are reported. ``epochs`` is
        None if only the time is limited.
        """

    def advance(self, samples: int, loss: float) -> None:
        """One step is done; ``loss`` is the latest known loss."""

    def time_left(self, seconds: float) -> None:
        """The time until the limit; reported at the start and after every step if there is one."""

    def epoch(self, record: EpochRecord) -> None:
        """One epoch is done."""

    def note(self, text: str) -> None:
        """A message for the user."""

    def stop(self) -> None:
        """The run is over, successfully or not."""


@final
class NoProgress:
    """Shows nothing."""

    def start(self, epochs: int | None, steps: int, done: int) -> None:
        """Shows nothing."""

    def advance(self, samples: int, loss: float) -> None:
        """Shows nothing."""

    def time_left(self, seconds: float) -> None:
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
        display: A display on that console that has been started, to add the bar to.
    """

    def __init__(self, label: str = "train", *, lines: bool = False,
                 console: Console | None = None, display: Bar | None = None) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to import

        self._console = Console(stderr=True) if console is None else console
        self._label = label
        self._lines = lines
        self._display = display
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._epochs: int | None = 0
        self._steps = self._done = 0
        self._limit: float | None = None  # seconds
        self._left = 0.0
        self._samples = 0
        self._since = 0.0
        self._score = "-"

    def start(self, epochs: int | None, steps: int, done: int) -> None:
        """Show the bar if the output is a terminal."""
        self._epochs, self._steps, self._done, self._score = epochs, steps, done, "-"
        self._limit = None
        self._start_clock()
        if self._console.is_terminal:
            self._bar = _bar(self._console) if self._display is None else self._display
            self._task = self._bar.add_task(
                self._heading(), total=None if epochs is None else epochs * steps,
                completed=done * steps, status="")
            self._bar.start()

    def advance(self, samples: int, loss: float) -> None:
        """Move the bar by one step."""
        self._samples += samples
        if self._bar is None or self._task is None:
            return
        speed = self._samples / max(time.monotonic() - self._since, 1e-9)
        shown = "-" if math.isnan(loss) else f"{loss:.3f}"
        status = f"loss {shown}  val {self._score}  {speed:,.0f} samples/s"
        self._bar.update(self._task, advance=int(self._limit is None), status=status,
                         description=self._heading())

    def time_left(self, seconds: float) -> None:
        """Move the bar along the time instead of the steps."""
        self._limit, self._left = seconds if self._limit is None else self._limit, seconds
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self._limit,
                             completed=self._limit - seconds, description=self._heading())

    def epoch(self, record: EpochRecord) -> None:
        """Store the score; write a line if lines are enabled."""
        self._done = record.epoch
        if self._bar is not None and self._task is not None and self._limit is None:
            # a resumed epoch did not report all steps
            self._bar.update(self._task, completed=record.epoch * self._steps)
        self._score = str(record.score)
        self._start_clock()
        if self._lines and self._bar is None:
            left = "" if self._limit is None else f", {format_seconds(self._left)} left"
            self._print(f"{self._label} {self._number(record.epoch)}: loss {record.loss:.4f}, "
                        f"val {self._score}, {record.seconds:.1f} s{left}")

    def note(self, text: str) -> None:
        """Write a line, on a terminal or if lines are enabled."""
        if self._lines or self._console.is_terminal:
            self._print(f"{self._label}: {text}")

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None and self._task is not None:
            if self._display is None:
                self._bar.stop()
            else:
                self._bar.remove_task(self._task)
            self._bar = self._task = None

    def _heading(self) -> str:
        left = "" if self._limit is None else f", {format_seconds(self._left)} left"
        return f"{self._label} {self._number(self._done + 1)}{left}"

    def _number(self, epoch: int) -> str:
        return str(epoch) if self._epochs is None else (
            f"{min(epoch, self._epochs)}/{self._epochs}")

    def _start_clock(self) -> None:
        self._samples, self._since = 0, time.monotonic()

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def format_seconds(seconds: float) -> str:
    """Format a time left.

    Example:
        >>> format_seconds(42.3), format_seconds(125)
        ('42 s', '2:05 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def _bar(console: Console) -> Bar:
    from rich import progress  # noqa: PLC0415 - slow to import

    return progress.Progress(
        progress.TextColumn("{task.description}"), progress.BarColumn(),
        progress.TextColumn("{task.fields[status]}"), progress.TimeRemainingColumn(),
        console=console, transient=True)
