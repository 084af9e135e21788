"""Which operating point the next call takes: closed loop over latency, battery and heat."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Final, Literal, final, get_args

from edgewright.core import FigureName, OperatingPoint
from edgewright.errors import UsageError
from edgewright.runtime.adaptation._deadline import DeadlineLoop
from edgewright.runtime.adaptation._senses import Senses

Power = Literal["auto", "high", "balanced", "low"]

_TICK_S: Final = 0.05         # decisions are this far apart
_PRESSURE_GAP: Final = 0.1    # below what lowered the ceiling, before it rises again
_PRESSURE_HOLD_S: Final = 5.0
_CHANGES: Final = 1000


@dataclass(frozen=True)
class Change:
    """The controller went from one point to another.

    Attributes:
        time_s: On the controller's clock.
        before: Number of the point left.
        after: Number of the point taken.
        reason: Why, in words.

    Example:
        >>> Change(time_s=12.5, before=0, after=2, reason="p95 6.1 ms above 5 ms").after
        2
    """

    time_s: float
    before: int
    after: int
    reason: str


@final
class Controller:
    """Picks the operating point of each call; safe to use from several threads.

    The points are ordered by what they cost (mean latency where all know it, else MACs, else as
    given, each half of the one before). Two things bound the choice, and the lower one holds:

    - The **ceiling**, from `power`. ``high``: the dearest point. ``low``: the cheapest.
      ``balanced``: the one in the middle, the dearer of two. ``auto``: the default point, which is
      the first given, and less as the sensors' pressure p rises: of the r points from the cheapest
      to the default, the one ``floor(p r)`` below the default. It falls at once, and rises after p
      has been 0.1 lower than need be for 5 s. Without sensors, or where all fail, p is 0.
    - The **deadline**, where one is set; `DeadlineLoop` states its rule.

    A decision is made at most every 50 ms; other calls of `choose` and `record` cost microseconds.

    Args:
        points: At least one, the default first.
        senses: None for a device that is never pressed.
        clock: In seconds.

    Raises:
        UsageError: No points.

    Example:
        >>> points = [OperatingPoint(name=name, path=(0,)) for name in ("best", "fast")]
        >>> controller = Controller(points)
        >>> controller.choose()
        0
        >>> controller.power = "low"
        >>> controller.choose(), controller.trace[0].reason
        (1, 'power low')
    """

    def __init__(self, points: Sequence[OperatingPoint], *, senses: Senses | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        if not points:
            raise UsageError("there is no operating point to choose; give at least one")
        nominal = nominal_costs(points)
        # rank 0 is the cheapest; of two of one cost the one given first is the dearer
        self._order = sorted(range(len(points)), key=lambda index: (nominal[index], -index))
        self._default = self._order.index(0)
        self._senses = senses
        self._clock = clock
        self._lock = threading.Lock()
        self._loop = DeadlineLoop([nominal[index] for index in self._order])
        self._power: Power = "auto"
        self._pressed = self._default      # the ceiling of the sensors
        self._eased_s: float | None = None   # since when it could rise
        self._ceiling = self._current = self._default
        self._next_s = -math.inf
        self._trace: deque[Change] = deque(maxlen=_CHANGES)

    @property
    def deadline_ms(self) -> float | None:
        """What 95 % of the calls should keep to; None for as long as they take.

        Raises:
            UsageError: Set to what is not above 0.
        """
        return self._loop.deadline_ms

    @deadline_ms.setter
    def deadline_ms(self, deadline_ms: float | None) -> None:
        if deadline_ms is not None and not (_is_number(deadline_ms) and 0 < deadline_ms < math.inf):
            raise UsageError(f"deadline_ms must be above 0, or None for no deadline; got "
                             f"{deadline_ms!r}")
        with self._lock:
            self._loop.aim(deadline_ms)
            self._next_s = -math.inf

    @property
    def power(self) -> Power:
        """How dear a point may be: ``auto``, ``high``, ``balanced`` or ``low``.

        Raises:
            UsageError: Set to another word.
        """
        return self._power

    @power.setter
    def power(self, power: Power) -> None:
        if power not in get_args(Power):
            raise UsageError(f"power {power!r} is unknown; expected one of {get_args(Power)}")
        with self._lock:
            self._power = power
            self._next_s = -math.inf

    @property
    def trace(self) -> tuple[Change, ...]:
        """The last 1,000 changes, oldest first."""
        with self._lock:
            return tuple(self._trace)

    def choose(self) -> int:
        """Number of the operating point that the next call should take."""
        with self._lock:
            now = self._clock()
            if now >= self._next_s:
                self._next_s = now + _TICK_S
                self._decide(now)
            return self._order[self._current]

    def record(self, index: int, latency_ms: float) -> None:
        """A call through that point took so long; one that left another point meanwhile is let go.

        Raises:
            UsageError: There is no such point.
        """
        if not 0 <= index < len(self._order):
            raise UsageError(f"there is no operating point {index}; they are 0 to "
                             f"{len(self._order) - 1}")
        with self._lock:
            if index == self._order[self._current]:
                self._loop.add(self._clock(), latency_ms)

    def _decide(self, now: float) -> None:
        old = self._ceiling
        self._ceiling, why = self._find_ceiling(now)
        said = self._loop.decide(now, self._current)
        target = min(self._ceiling, self._loop.limit)
        if target == self._current:
            return
        if not (said and target == self._loop.limit):
            said = why if self._ceiling != old else "the deadline was lifted"
        self._trace.append(Change(now, self._order[self._current], self._order[target], said))
        self._loop.moved(now, self._current)
        self._current = target

    def _find_ceiling(self, now: float) -> tuple[int, str]:
        top = len(self._order) - 1
        if self._power != "auto":
            rank = {"high": top, "balanced": (top + 1) // 2, "low": 0}[self._power]
            return rank, f"power {self._power}"
        pressure = 0.0 if self._senses is None else self._senses.pressure
        points = self._default + 1
        gap = min(_PRESSURE_GAP, 0.5 / points)
        falls_to = self._default - min(int(pressure * points), self._default)
        rises_to = self._default - min(int((pressure + gap) * points), self._default)
        if rises_to <= self._pressed:
            self._eased_s = None
        elif self._eased_s is None:
            self._eased_s = now
        if falls_to < self._pressed:
            self._pressed = falls_to
        elif self._eased_s is not None and now - self._eased_s >= _PRESSURE_HOLD_S:
            self._pressed, self._eased_s = rises_to, None
        cause = "" if self._senses is None else self._senses.cause
        return self._pressed, cause or "power auto: nothing presses the device"


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def nominal_costs(points: Sequence[OperatingPoint]) -> list[float]:
    """What each point costs, in one unit for all: see `Controller`.

    Example:
        >>> nominal_costs([OperatingPoint(name=name, path=(0,)) for name in "abc"])
        [1.0, 0.5, 0.25]
    """
    names: tuple[FigureName, ...] = ("mean_latency_ms", "macs")
    for name in names:
        costs = [point.figures.get(name) for point in points]
        known = [cost for cost in costs if cost is not None and 0 < cost < math.inf]
        if len(known) == len(points):
            return known
    return [0.5 ** place for place in range(len(points))]
