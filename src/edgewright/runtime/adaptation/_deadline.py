"""The most expensive operating point that a deadline allows, from the measured latencies."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, final

_WINDOW_S: Final = 1.0
_MIN_CALLS: Final = 8
_MAX_CALLS: Final = 2000      # bounds the work of one decision
_STALE_S: Final = 30.0

# Shares of the deadline.
_LATE: Final = 0.9            # above: switch to a cheaper point at once
_FITS: Final = 0.8            # a cheaper point must be expected below this
_EASY: Final = 0.7            # below for one hold: try a more expensive point
_POSSIBLE: Final = 0.85       # below for ten holds: try it too
_POSSIBLE_HOLDS: Final = 10

_HOLD_S: Final = (1.0, 30.0)  # shortest and longest
_PROOF_S: Final = 2.0         # a rise that lasts less than this, or than four holds, has failed
_PROOF_HOLDS: Final = 4
_MIN_YIELD: Final = 0.25


@final
class DeadlineLoop:
    """The highest rank of operating point that the deadline allows; rank 0 is the cheapest.

    p95 is the 95th percentile of the latencies at the current point over the last second (at least
    the last 8 calls, if they are no older than 30 s), but never the single slowest call. The p95 of
    another point is predicted from the points' costs as ``p95 (cost' / cost)^y``. The exponent y,
    the yield, starts at 1 and is estimated at each switch, between 0.25 and 1, because part of the
    latency does not depend on the point.

    - **Down, at once**: if p95 is above 0.9 of the deadline, to the most expensive of the cheaper
      points that is predicted below 0.8 of the deadline, else to the cheapest.
    - **Up, by one point**: after the next more expensive point has been predicted below 0.7 of the
      deadline for a whole hold, or below 0.85 for ten holds.
    - **The hold** is 1 s. If a step up is reverted within 2 s, or within four holds, it has failed
      and the hold doubles, up to 30 s; if it is reverted later, the hold is 1 s again. This
      prevents oscillation: latencies close to the limit cause fewer and fewer switches.

    Latencies are discarded at each switch. Not thread-safe: the owner holds a lock.

    Args:
        costs: Of the points by rank, ascending, in any unit.

    Attributes:
        deadline_ms: In milliseconds; None for no deadline.
        limit: The highest rank allowed.

    Example:
        >>> loop = DeadlineLoop([1.0, 2.0])
        >>> loop.set_deadline(5.0)
        >>> for call in range(8):
        ...     loop.add(call / 100, 6.1)
        >>> loop.decide(0.08, current=1), loop.limit
        ('p95 6.1 ms above 0.9 of 5 ms', 0)
    """

    def __init__(self, costs: Sequence[float]) -> None:
        self._costs = tuple(costs)
        self._calls: deque[tuple[float, float]] = deque(maxlen=_MAX_CALLS)
        self._yield = 1.0
        # Time of the last switch, and p95 and cost of the point before it.
        self._previous: tuple[float, float, float] | None = None
        self.deadline_ms: float | None = None
        self.set_deadline(None)

    def set_deadline(self, deadline_ms: float | None) -> None:
        """Set another deadline; None allows every point."""
        if deadline_ms is None:
            self.limit = len(self._costs) - 1
        self.deadline_ms = deadline_ms
        self._hold_s = _HOLD_S[0]
        self._rose_s: float | None = None
        self._easy_s: float | None = None
        self._possible_s: float | None = None

    def add(self, now: float, latency_ms: float) -> None:
        """Record the latency of a call at the current point."""
        self._calls.append((now, latency_ms))

    def forget_latencies(self, now: float, before: int) -> None:
        """Discard the latencies because the point changed, for whatever reason, from ``before``."""
        p95 = self._p95(now)
        self._previous = None if p95 is None else (now, p95, self._costs[before])
        self._calls.clear()
        self._easy_s = self._possible_s = None

    def decide(self, now: float, current: int) -> str:
        """Update the limit from the latencies at the current rank; returns the reason, or "".

        The caller then switches to the limit, or to a lower rank, and calls `forget_latencies`.
        """
        deadline = self.deadline_ms
        p95 = None if deadline is None else self._p95(now)
        if deadline is None or p95 is None:
            return ""
        self._estimate_yield(now, p95, current)
        if p95 > _LATE * deadline:
            self._fall(now, p95, current, deadline)
            return f"p95 {p95:.3g} ms above {_LATE:g} of {deadline:g} ms"
        if current == self.limit < len(self._costs) - 1:
            expected = self._expected(p95, current, current + 1)
            if self._may_rise(now, expected / deadline):
                self.limit, self._rose_s = current + 1, now
                return f"p95 expected to be {expected:.3g} ms of {deadline:g} ms"
        return ""

    def _fall(self, now: float, p95: float, current: int, deadline: float) -> None:
        if self._rose_s is not None:
            failed = now - self._rose_s < max(_PROOF_S, _PROOF_HOLDS * self._hold_s)
            self._hold_s = min(2 * self._hold_s, _HOLD_S[1]) if failed else _HOLD_S[0]
            self._rose_s = None
        self.limit = next((rank for rank in range(current - 1, 0, -1)
                           if self._expected(p95, current, rank) < _FITS * deadline), 0)

    def _may_rise(self, now: float, share: float) -> bool:
        """Whether the next point's share of the deadline has been small enough for long enough."""
        self._easy_s = _since(self._easy_s, now, share < _EASY)
        self._possible_s = _since(self._possible_s, now, share < _POSSIBLE)
        return (_lasted(self._easy_s, now, self._hold_s)
                or _lasted(self._possible_s, now, _POSSIBLE_HOLDS * self._hold_s))

    def _estimate_yield(self, now: float, p95: float, current: int) -> None:
        """Compare the latency before and after the last switch, once both are known."""
        if self._previous is None:
            return
        (switched_s, p95_before, cost_before), self._previous = self._previous, None
        nominal = math.log(cost_before / self._costs[current])
        if nominal and min(p95, p95_before) > 0 and now - switched_s <= _WINDOW_S:
            observed = math.log(p95_before / p95)
            self._yield = min(max(observed / nominal, _MIN_YIELD), 1.0)

    def _expected(self, p95: float, current: int, rank: int) -> float:
        return p95 * float((self._costs[rank] / self._costs[current]) ** self._yield)

    def _p95(self, now: float) -> float | None:
        calls = self._calls
        while calls and (calls[0][0] < now - _STALE_S or (
                calls[0][0] < now - _WINDOW_S and len(calls) > _MIN_CALLS)):
            calls.popleft()
        if len(calls) < _MIN_CALLS:
            return None
        place = min(math.ceil(0.95 * len(calls)) - 1, len(calls) - 2)
        return sorted(latency for _, latency in calls)[place]


def _since(start: float | None, now: float, holds: bool) -> float | None:
    if not holds:
        return None
    return now if start is None else start


def _lasted(start: float | None, now: float, hold_s: float) -> bool:
    return start is not None and now - start >= hold_s
