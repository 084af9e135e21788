"""A limit on the time of a training, divided among steps, validation and preparation."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

from edgewright.errors import UsageError

_RECENT_STEPS: Final = 50  # whose mean predicts the next step
_RECENT_CLOSINGS: Final = 2  # the longer of which is reserved
# Before an epoch ends with a validation, there must be time for this many of them: else the last
# epoch goes on, lest two validations follow each other within a few steps.
_CLOSINGS: Final = 3


def read_clock() -> float:
    """Seconds of a clock that all processes of this machine share."""
    return time.monotonic()


@dataclass(frozen=True)
class TimeUse:
    """The time that a run has used, over all interruptions; it is stored in its checkpoint.

    Attributes:
        seconds: All of it.
        preparation: What was used before the first step; None if there was no step yet.
        is_over: Whether the run has ended.
    """

    seconds: float = 0.0
    preparation: float | None = None
    is_over: bool = False


@dataclass(frozen=True)
class TimePlan:
    """What a time limit leaves for the next steps.

    Attributes:
        elapsed: Share of the time for steps that is used, from 0 to 1.
        has_step: Whether a step fits.
        is_last: Whether no other step fits after the next.
        has_epoch: Whether another epoch is worth beginning.
    """

    elapsed: float = 0.0
    has_step: bool = True
    is_last: bool = False
    has_epoch: bool = True


@final
class TimeLimit:
    """Measures what a run's parts take, and plans the rest of its time.

    The clock starts when the object is made. What follows the last step (validation, copying and
    saving the weights) is called the closing; its time is reserved, as last measured.

    Args:
        seconds: The limit.

    Example:
        >>> limit = TimeLimit(60)
        >>> with limit.closing():
        ...     pass
        >>> limit.plan().is_last
        False
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self._started = read_clock()
        self._earlier = 0.0
        self._preparation: float | None = None
        self._steps: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._closings: deque[float] = deque(maxlen=_RECENT_CLOSINGS)

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return max(0.0, self.seconds - self.use.seconds)

    @property
    def use(self) -> TimeUse:
        """The time used so far."""
        return TimeUse(self._earlier + read_clock() - self._started, self._preparation,
                       self.is_over)

    def resume(self, use: TimeUse) -> None:
        """Add the time that an interrupted run had used, if it had taken a step."""
        if use.preparation is not None:
            self._earlier, self._preparation = use.seconds, use.preparation
            self.is_over = use.is_over

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure a step."""
        if self._preparation is None:
            self._preparation = self.use.seconds
        began = read_clock()
        yield
        self._steps.append(read_clock() - began)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Measure what follows the last step of an epoch."""
        began = read_clock()
        yield
        self._closings.append(read_clock() - began)

    def plan(self) -> TimePlan:
        """Plan the rest of the time."""
        used, closing, step = self.use.seconds, self._closing_seconds, self._step_seconds
        preparation = used if self._preparation is None else self._preparation
        available = self.seconds - closing - preparation
        rest = self.seconds - used - closing
        return TimePlan(
            elapsed=1.0 if available <= 0 else min(1.0, max(0.0, (used - preparation) / available)),
            has_step=rest >= step,
            is_last=bool(self._steps) and rest < 2 * step,
            has_epoch=self.seconds - used >= _CLOSINGS * closing + step)

    def require_step(self) -> None:
        """Check that the limit leaves time for one step, before and after the first.

        Raises:
            UsageError: It does not; the message says what would fit.
        """
        closing, step = self._closing_seconds, self._step_seconds
        needed = self.use.seconds + closing + (0.0 if self._steps else step)
        if needed <= self.seconds:
            return
        parts = (f"preparation took {self.use.seconds - sum(self._steps):.3g} s, "
                 f"{f'one step {step:.3g} s, ' if self._steps else ''}"
                 f"and validation takes {closing:.3g} s")
        fits = f"{_round_up(needed)} s"
        raise UsageError(f"time={self.seconds:.3g} s is too short for one step of training: "
                         f"{parts}; give {f'{fits} or more' if self._steps else f'over {fits}'}")

    @property
    def _step_seconds(self) -> float:
        return sum(self._steps) / len(self._steps) if self._steps else 0.0

    @property
    def _closing_seconds(self) -> float:
        return max(self._closings, default=0.0)


def _round_up(seconds: float) -> str:
    """Seconds with two significant digits, rounded up."""
    unit: float = 10.0 ** (math.floor(math.log10(max(seconds, 1e-3))) - 1)
    return f"{math.ceil(seconds / unit) * unit:g}"
