"""How long the next segment will take."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Final, final

from edgewright.errors import UsageError

_WEIGHT: Final = 0.1      # of the newest run in the mean
_DEVIATIONS: Final = 2.0
_TRUSTED: Final = 100     # questions that an estimate answers without being renewed
_SHRINK: Final = 0.95     # with every further one


@dataclass
class _Estimate:
    """Of one segment and runs of about as many samples."""

    runs: int = 0
    mean_ms: float = 0.0
    variance: float = 0.0
    mean_samples: float = 0.0
    asked: int = 0   # since it was renewed

    def renew(self, samples: int, ms: float) -> None:
        if self.asked > _TRUSTED:   # what it knew was of another time
            self.runs, self.variance = 0, 0.0
        self.runs, self.asked = self.runs + 1, 0
        weight = max(_WEIGHT, 1 / self.runs)   # the plain mean at first
        off = ms - self.mean_ms
        if self.runs > 1:
            self.variance = (1 - weight) * (self.variance + weight * off * off)
        self.mean_ms += weight * off
        self.mean_samples += weight * (samples - self.mean_samples)

    def expect(self, samples: int) -> float:
        self.asked += 1
        pessimistic = self.mean_ms + _DEVIATIONS * math.sqrt(self.variance)
        doubt = _SHRINK ** max(self.asked - _TRUSTED, 0)
        return pessimistic * doubt * samples / self.mean_samples


@final
class SegmentTimes:
    """Running estimates of what each segment takes, on the pessimistic side.

    For each segment and each power of two of the number of samples, an exponentially weighted mean
    of the runs' times plus two deviations (weight 0.1; Finch 2009, "Incremental calculation of
    weighted mean and variance"), in proportion to the samples within a power and beyond the powers
    seen. Safe to use from several threads; a question or a run costs the same however many came
    before.

    Whoever asks may then not run the segment, and so never learn that a slow spell is over. So an
    estimate that has been asked for 100 times without a run shrinks by 5 % with every further time,
    until the segment is tried again; that run starts the estimate afresh.

    Args:
        segments: How many there are.

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
        """A run of a segment on that many samples, at least 1, took that many milliseconds."""
        with self._lock:
            self._known[segment].setdefault(_power(samples), _Estimate()).renew(samples, ms)

    def expect(self, segment: int, samples: int) -> float | None:
        """Milliseconds that a run is not likely to exceed; None where no run is known."""
        with self._lock:
            known, power = self._known[segment], _power(samples)
            if not known:
                return None
            nearest = min(known, key=lambda seen: (abs(seen - power), seen))
            return known[nearest].expect(samples)


def _power(samples: int) -> int:
    """Exponent of the smallest power of two that is not below a number of samples."""
    return (samples - 1).bit_length()
