"""Estimates of how long each segment takes."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Final, final

from edgewright.errors import UsageError

_WEIGHT: Final = 0.1      # of the newest run in the mean
_DEVIATIONS: Final = 2.0
_MAX_QUERIES: Final = 100  # without a new run, before the estimate shrinks
_SHRINK: Final = 0.95      # per further query


@dataclass
class _Estimate:
    """The estimate for one segment and a range of batch sizes."""

    runs: int = 0
    mean_ms: float = 0.0
    variance: float = 0.0
    mean_samples: float = 0.0
    queries: int = 0   # since the last run

    def add(self, samples: int, ms: float) -> None:
        if self.queries > _MAX_QUERIES:   # the old runs are outdated
            self.runs, self.variance = 0, 0.0
        self.runs, self.queries = self.runs + 1, 0
        weight = max(_WEIGHT, 1 / self.runs)   # a plain mean at first
        off = ms - self.mean_ms
        if self.runs > 1:
            self.variance = (1 - weight) * (self.variance + weight * off * off)
        self.mean_ms += weight * off
        self.mean_samples += weight * (samples - self.mean_samples)

    def expect(self, samples: int) -> float:
        self.queries += 1
        pessimistic = self.mean_ms + _DEVIATIONS * math.sqrt(self.variance)
        shrink = _SHRINK ** max(self.queries - _MAX_QUERIES, 0)
        return pessimistic * shrink * samples / self.mean_samples


@final
class SegmentTimes:
    """Running, pessimistic estimates of the time that each segment takes; thread-safe.

    One estimate per segment and power of two of the number of samples: an exponentially weighted
    mean of the runs' times plus two standard deviations (weight 0.1; Finch 2009, "Incremental
    calculation of weighted mean and variance"). It is scaled in proportion to the number of
    samples, within a power of two and beyond those seen. Adding and querying take constant time.

    A caller may decide not to run a slow segment, and would then never see that it is fast again.
    Therefore an estimate that was queried 100 times without a run shrinks by 5 % per further query,
    until the segment runs again; that run restarts the estimate.

    Args:
        segments: Number of segments.

    Raises:
        UsageError: ``segments`` is below 1.

    Example:
        >>> times = SegmentTimes(2)
        >>> times.expect(1, samples=1) is None
        True
        >>> times.add(1, samples=1, ms=2.0)
        >>> times.expect(1, samples=1), times.expect(1, samples=8)
        (2.0, 16.0)
    """

    def __init__(self, segments: int) -> None:
        if segments < 1:
            raise UsageError(f"segments must be at least 1, got {segments}")
        self._lock = threading.Lock()
        self._known: tuple[dict[int, _Estimate], ...] = tuple({} for _ in range(segments))

    def add(self, segment: int, samples: int, ms: float) -> None:
        """Record a run of a segment on that many samples (at least 1), in milliseconds."""
        with self._lock:
            self._known[segment].setdefault(_power(samples), _Estimate()).add(samples, ms)

    def expect(self, segment: int, samples: int) -> float | None:
        """Time in milliseconds that a run is unlikely to exceed; None before the first run."""
        with self._lock:
            known, power = self._known[segment], _power(samples)
            if not known:
                return None
            nearest = min(known, key=lambda seen: (abs(seen - power), seen))
            return known[nearest].expect(samples)


def _power(samples: int) -> int:
    """Exponent of the smallest power of two that is at least the number of samples."""
    return (samples - 1).bit_length()
