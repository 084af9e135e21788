"""Latency percentiles of the most recent calls."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import final

import numpy as np

from edgewright.errors import UsageError


@dataclass(frozen=True)
class Percentiles:
    """Latency percentiles of the most recent calls, interpolated linearly.

    Attributes:
        p50_ms: Median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        calls: Number of calls they are computed from.

    Example:
        >>> Percentiles(p50_ms=2.0, p95_ms=4.5, p99_ms=9.0, calls=1024).p95_ms
        4.5
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    calls: int


@final
class Latencies:
    """Keeps the latencies of the most recent calls; safe to use from several threads.

    Args:
        keep: Number of calls; older ones are discarded.

    Raises:
        UsageError: ``keep`` is below 1.

    Example:
        >>> latencies = Latencies(keep=3)
        >>> for ms in (50.0, 1.0, 2.0, 3.0):
        ...     latencies.add(ms)
        >>> latencies.percentiles()
        Percentiles(p50_ms=2.0, p95_ms=2.9, p99_ms=2.98, calls=3)
    """

    def __init__(self, keep: int = 1024) -> None:
        if keep < 1:
            raise UsageError(f"keep must be at least 1 call, got {keep}")
        self._kept: deque[float] = deque(maxlen=keep)

    def add(self, ms: float) -> None:
        """Add the latency of a call, in milliseconds."""
        self._kept.append(ms)

    def percentiles(self) -> Percentiles | None:
        """Percentiles of the kept calls; None before the first."""
        kept = list(self._kept.copy())  # atomic, since other threads may add concurrently
        if not kept:
            return None
        p50, p95, p99 = np.percentile(kept, (50, 95, 99)).tolist()
        return Percentiles(p50_ms=p50, p95_ms=p95, p99_ms=p99, calls=len(kept))
