"""The progress of a whole search: one bar on a terminal, elsewhere one line per step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

from rich import progress
from rich.console import Console, RenderableType
from rich.text import Text

from edgewright.training import format_seconds


@final
class OverallProgress:
    """Shows the phase, the best result so far, and the time left, which goes on by itself.

    Args:
        console: Where it is shown.
        phases: Names of all phases, in order.
        seconds: The time for all of them.
        used: The time used so far.

    Example:
        >>> shown = OverallProgress(Console(force_terminal=False), ("race", "training"), 600,
        ...                         lambda: 100.0)
        >>> shown.begin("race", "round 1 of 2, candidate 3 of 9")
        1/2 race: round 1 of 2, candidate 3 of 9, 8:20 min left
        >>> shown.show_best("93.1 %, 240 kB; front of 4")
        >>> shown.begin("training")
        2/2 training, 8:20 min left; best 93.1 %, 240 kB; front of 4
    """

    def __init__(self, console: Console, phases: tuple[str, ...], seconds: float,
                 used: Callable[[], float]) -> None:
        self._console, self._phases = console, phases
        self._seconds, self._used = seconds, used
        self._phase = self._detail = self._activity = self._best = ""
        is_drawn = console.is_terminal and not console.quiet
        self.bar = _Bar(console, seconds, used) if is_drawn else None
        if self.bar is not None:
            self.bar.start()

    def begin(self, phase: str, detail: str = "") -> None:
        """Show that a phase, or the next part of it, begins."""
        self._phase, self._detail, self._activity = phase, detail, ""
        if self.bar is None:
            left = format_seconds(max(0.0, self._seconds - self._used()))
            best = f"; best {self._best}" if self._best else ""
            self._console.print(f"{self._heading()}, {left} left{best}", markup=False,
                                soft_wrap=True)
        self._update()

    def show_activity(self, activity: str) -> None:
        """Show what is done in the part, on a terminal."""
        self._activity = activity
        self._update()

    def show_best(self, text: str) -> None:
        """Show the best result so far."""
        self._best = text
        self._update()

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()

    def _heading(self) -> str:
        number = self._phases.index(self._phase) + 1
        return (f"{number}/{len(self._phases)} {self._phase}"
                f"{f': {self._detail}' if self._detail else ''}")

    def _update(self) -> None:
        if self.bar is not None and self._phase:
            heading = self._heading() + (f", {self._activity}" if self._activity else "")
            self.bar.show(heading, f"best {self._best}" if self._best else "")


@final
class _Bar(progress.Progress):
    """A bar whose first task moves with the clock; trainings add tasks of their own."""

    def __init__(self, console: Console, seconds: float, used: Callable[[], float]) -> None:
        super().__init__(
            progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=20),
            progress.TextColumn("{task.fields[status]}"), _TimeLeft(), console=console,
            transient=True)
        self._clock = used
        self._overall = self.add_task("", total=seconds, status="", clock=used)

    def show(self, heading: str, status: str) -> None:
        """Set the texts of the first task."""
        self.update(self._overall, description=heading, status=status)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Called whenever the display is drawn, several times per second."""
        for task in self.tasks:
            if task.id == self._overall:
                task.completed = min(self._clock(), task.total or 0.0)
        yield from super().get_renderables()


class _TimeLeft(progress.TimeRemainingColumn):
    """The time left: by the clock if the task has one, else estimated from its speed."""

    def render(self, task: progress.Task) -> Text:
        clock: Any = task.fields.get("clock")
        if clock is None:
            return super().render(task)
        return Text(f"{format_seconds(max(0.0, (task.total or 0.0) - clock()))} left")
