"""Closed-loop choice of the operating point from latency, battery and temperature."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Final, Literal, final, get_args

from edgewright.core import CostName, OperatingPoint
from edgewright.errors import UsageError
from edgewright.runtime.adaptation._deadline import DeadlineLoop
from edgewright.runtime.adaptation._device_pressure import DevicePressure

Power = Literal["auto", "high", "balanced", "low"]

_TICK_S: Final = 0.05         # minimum time between decisions
_PRESSURE_GAP: Final = 0.1    # hysteresis: the pressure must be this much lower for a rise
_PRESSURE_HOLD_S: Final = 5.0
_MAX_CHANGES: Final = 1000


@dataclass(frozen=True)
class Change:
    """A switch of the controller from one operating point to another.

    Attributes:
        time_s: Time on the controller's clock.
        before: Number of the previous point.
        after: Number of the new point.
        reason: Why it switched.

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

    The points are ordered by cost: mean latency if all have it, else MACs, else the given order
    with each assumed to cost half of the previous one. The choice is the most expensive point that
    both limits allow:

    - The **ceiling**, set by `power`. ``high``: the most expensive point. ``low``: the cheapest.
      ``balanced``: the middle one, the more expensive of two. ``auto``: the default point, which is
      the first given, lowered as the device's resource pressure p rises: of the r points from the
      cheapest to the default, the one ``floor(p r)`` below the default. The ceiling falls at once;
      it rises after p has been at least 0.1 below the threshold for 5 s. Without sensors, or if all
      of them fail, p is 0.
    - The **deadline**, if one is set, see `DeadlineLoop`.

    A decision is made at most every 50 ms; other calls of `choose` and `record` take microseconds.

    Args:
        points: At least one, the default first.
        pressure: The device's resource pressure; None for no sensors.
        clock: Returns seconds.

    Raises:
        UsageError: There are no points.

    Example:
        >>> points = [OperatingPoint(name=name, path=(0,)) for name in ("best", "fast")]
        >>> controller = Controller(points)
        >>> controller.choose()
        0
        >>> controller.power = "low"
        >>> controller.choose(), controller.trace[0].reason
        (1, 'power low')
    """

    def __init__(self, points: Sequence[OperatingPoint], *,
                 pressure: DevicePressure | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        if not points:
            raise UsageError("there is no operating point to choose; give at least one")
        nominal = nominal_costs(points)
        # Rank 0 is the cheapest; of two with equal cost the first given counts as more expensive.
        self._order = sorted(range(len(points)), key=lambda index: (nominal[index], -index))
        self._default = self._order.index(0)
        self._pressure = pressure
        self._clock = clock
        self._lock = threading.Lock()
        self._loop = DeadlineLoop([nominal[index] for index in self._order])
        self._power: Power = "auto"
        self._pressure_ceiling = self._default
        self._eased_s: float | None = None   # since when that ceiling could rise
        self._ceiling = self._current = self._default
        self._next_s = -math.inf
        self._trace: deque[Change] = deque(maxlen=_MAX_CHANGES)

    @property
    def deadline_ms(self) -> float | None:
        """Latency that 95 % of the calls should stay below; None for no limit.

        Raises:
            UsageError: Set to anything but a finite number above 0 or None.
        """
        return self._loop.deadline_ms

    @deadline_ms.setter
    def deadline_ms(self, deadline_ms: float | None) -> None:
        if deadline_ms is not None and not (_is_number(deadline_ms) and 0 < deadline_ms < math.inf):
            raise UsageError(f"deadline_ms must be above 0, or None for no deadline; got "
                             f"{deadline_ms!r}")
        with self._lock:
            self._loop.set_deadline(deadline_ms)
            self._next_s = -math.inf

    @property
    def power(self) -> Power:
        """How expensive a point may be: ``auto``, ``high``, ``balanced`` or ``low``.

        Raises:
            UsageError: Set to any other value.
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
        """Number of the operating point that the next call should run."""
        with self._lock:
            now = self._clock()
            if now >= self._next_s:
                self._next_s = now + _TICK_S
                self._decide(now)
            return self._order[self._current]

    def record(self, index: int, latency_ms: float) -> None:
        """Report the latency of a call; ignored if the point is no longer the current one.

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
        old_ceiling = self._ceiling
        self._ceiling, ceiling_reason = self._find_ceiling(now)
        reason = self._loop.decide(now, self._current)
        rank = min(self._ceiling, self._loop.limit)
        if rank == self._current:
            return
        if not (reason and rank == self._loop.limit):
            reason = ceiling_reason if self._ceiling != old_ceiling else "the deadline was removed"
        self._trace.append(Change(now, self._order[self._current], self._order[rank], reason))
        self._loop.forget_latencies(now, self._current)
        self._current = rank

    def _find_ceiling(self, now: float) -> tuple[int, str]:
        top = len(self._order) - 1
        if self._power != "auto":
            rank = {"high": top, "balanced": (top + 1) // 2, "low": 0}[self._power]
            return rank, f"power {self._power}"
        level = 0.0 if self._pressure is None else self._pressure.level
        points = self._default + 1
        gap = min(_PRESSURE_GAP, 0.5 / points)
        falls_to = self._default - min(int(level * points), self._default)
        rises_to = self._default - min(int((level + gap) * points), self._default)
        if rises_to <= self._pressure_ceiling:
            self._eased_s = None
        elif self._eased_s is None:
            self._eased_s = now
        if falls_to < self._pressure_ceiling:
            self._pressure_ceiling = falls_to
        elif self._eased_s is not None and now - self._eased_s >= _PRESSURE_HOLD_S:
            self._pressure_ceiling, self._eased_s = rises_to, None
        cause = "" if self._pressure is None else self._pressure.cause
        return self._pressure_ceiling, cause or "power auto: no resource pressure"


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def nominal_costs(points: Sequence[OperatingPoint]) -> list[float]:
    """The cost of each point, in the same unit for all, see `Controller`.

    Example:
        >>> nominal_costs([OperatingPoint(name=name, path=(0,)) for name in "abc"])
        [1.0, 0.5, 0.25]
    """
    names: tuple[CostName, ...] = ("mean_latency_ms", "macs")
    for name in names:
        costs = [point.figures.get(name) for point in points]
        known = [cost for cost in costs if cost is not None and 0 < cost < math.inf]
        if len(known) == len(points):
            return known
    return [0.5 ** place for place in range(len(points))]
