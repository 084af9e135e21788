"""The time that a search may take, over all of its processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

from edgewright.core import parse_quantity
from edgewright.errors import UsageError


@final
class TimeBudget:
    """Counts the seconds of a search, those of interrupted processes included.

    Args:
        seconds: The time for the whole search.
        used: Seconds that earlier processes took.
        clock: Seconds, from any origin.

    Example:
        >>> moments = iter([100.0, 130.0, 130.0])
        >>> budget = TimeBudget(60.0, used=10.0, clock=lambda: next(moments))
        >>> budget.used, budget.left
        (40.0, 20.0)
    """

    def __init__(self, seconds: float, used: float = 0.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._before, self._clock, self._since = used, clock, clock()

    @property
    def used(self) -> float:
        """Seconds used."""
        return self._before + self._clock() - self._since

    @property
    def left(self) -> float:
        """Seconds left; not negative."""
        return max(0.0, self.seconds - self.used)


def parse_time(value: str | float) -> float:
    """Seconds from a number of seconds, or a text such as ``20m``, ``1h`` or ``90s``.

    Raises:
        UsageError: It is not a positive time.

    Example:
        >>> parse_time("20m"), parse_time(90)
        (1200.0, 90.0)
    """
    seconds = parse_quantity(value, "duration") if isinstance(value, str) else float(value)
    if not 0 < seconds < float("inf"):
        raise UsageError(f"the time must be positive, got {value!r}; write 20m, 90s or 1h")
    return seconds
