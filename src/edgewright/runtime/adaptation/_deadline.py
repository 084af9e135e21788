"""How dear an operating point the deadline allows, of the latencies seen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, final

_WINDOW_S: Final = 1.0
_LEAST_CALLS: Final = 8
_MOST_CALLS: Final = 2000     # bounds the work of one decision
_STALE_S: Final = 30.0

_LATE: Final = 0.9            # of the deadline: cheaper at once
_FITS: Final = 0.8            # what a cheaper point is picked by
_EASY: Final = 0.7            # a dearer point is worth trying after one hold
_POSSIBLE: Final = 0.85       # or after ten
_PATIENT: Final = 10

_HOLD_S: Final = (1.0, 30.0)  # least and most
_PROOF_S: Final = 2.0         # a rise that does not last so long, or four holds, has failed
_PROOF_HOLDS: Final = 4
_LEAST_YIELD: Final = 0.25


@final
class DeadlineLoop:
    """The deadline's bound on the rank of the operating point, rank 0 the cheapest.

    Of the latencies at the present point in the last second (8 calls at least, however old up to
    30 s) it takes the 95th percentile, though never the slowest call alone, p95. What p95 another
    point would have follows from the points' costs: ``p95 (cost' / cost)^y``. The yield y is 1 at
    first; each change of point shows what it is here, between 0.25 and 1, since latencies have
    parts that no point makes cheaper.

    - **Down, at once**: p95 above 0.9 of the deadline leads to the dearest cheaper point that is
      expected below 0.8 of it, else to the cheapest.
    - **Up, by one point**: after the next dearer point has been expected below 0.7 of the deadline
      for a whole hold, or below 0.85 for ten.
    - **The hold** is 1 s. A rise has failed where the deadline takes it back within 2 s, or within
      four holds; then the hold doubles, up to 30 s. Taken back later, the hold is 1 s again. So
      it cannot flap: latencies that hover at the limit lead to ever fewer changes.

    Latencies are forgotten at each change. It keeps no lock: its owner does.

    Args:
        costs: Of the points by rank, ascending, in any one unit.

    Attributes:
        deadline_ms: None for none.
        limit: The dearest rank allowed.

    Example:
        >>> loop = DeadlineLoop([1.0, 2.0])
        >>> loop.aim(5.0)
        >>> for call in range(8):
        ...     loop.add(call / 100, 6.1)
        >>> loop.decide(0.08, current=1), loop.limit
        ('p95 6.1 ms above 0.9 of 5 ms', 0)
    """

    def __init__(self, costs: Sequence[float]) -> None:
        self._costs = tuple(costs)
        self._calls: deque[tuple[float, float]] = deque(maxlen=_MOST_CALLS)
        self._yield = 1.0
        self._left: tuple[float, float, float] | None = None   # time, p95 and cost of what we left
        self.deadline_ms: float | None = None
        self.aim(None)

    def aim(self, deadline_ms: float | None) -> None:
        """Take another deadline; without one every point is allowed."""
        if deadline_ms is None:
            self.limit = len(self._costs) - 1
        self.deadline_ms = deadline_ms
        self._hold_s = _HOLD_S[0]
        self._rose_s: float | None = None
        self._easy_s: float | None = None
        self._possible_s: float | None = None

    def add(self, now: float, latency_ms: float) -> None:
        """A call at the present point ended."""
        self._calls.append((now, latency_ms))

    def moved(self, now: float, before: int) -> None:
        """The point was changed, for whatever reason: older latencies tell no more."""
        p95 = self._p95(now)
        self._left = None if p95 is None else (now, p95, self._costs[before])
        self._calls.clear()
        self._easy_s = self._possible_s = None

    def decide(self, now: float, current: int) -> str:
        """Move the limit where the latencies at the current rank ask for it; says why, or nothing.

        The caller then moves to the limit, or stays below it, and tells `moved`.
        """
        deadline, p95 = self.deadline_ms, self._p95(now)
        if deadline is None or p95 is None:
            return ""
        self._learn(now, p95, current)
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
                or _lasted(self._possible_s, now, _PATIENT * self._hold_s))

    def _learn(self, now: float, p95: float, current: int) -> None:
        """See what the last change did to the latency, once it shows."""
        if self._left is None:
            return
        (left_s, p95_left, cost_left), self._left = self._left, None
        nominal = math.log(cost_left / self._costs[current])
        if nominal and min(p95, p95_left) > 0 and now - left_s <= _WINDOW_S:
            seen = math.log(p95_left / p95)
            self._yield = min(max(seen / nominal, _LEAST_YIELD), 1.0)

    def _expected(self, p95: float, current: int, rank: int) -> float:
        return p95 * float((self._costs[rank] / self._costs[current]) ** self._yield)

    def _p95(self, now: float) -> float | None:
        calls = self._calls
        while calls and (calls[0][0] < now - _STALE_S or (
                calls[0][0] < now - _WINDOW_S and len(calls) > _LEAST_CALLS)):
            calls.popleft()
        if len(calls) < _LEAST_CALLS:
            return None
        place = min(math.ceil(0.95 * len(calls)) - 1, len(calls) - 2)
        return sorted(latency for _, latency in calls)[place]


def _since(start: float | None, now: float, holds: bool) -> float | None:
    if not holds:
        return None
    return now if start is None else start


def _lasted(start: float | None, now: float, hold_s: float) -> bool:
    return start is not None and now - start >= hold_s
