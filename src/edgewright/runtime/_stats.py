"""What a session has done so far, and what it cost."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core import Segment


@dataclass(frozen=True)
class Stats:
    """Counters of a session, taken at one moment.

    Attributes:
        calls: Calls of the session.
        samples: Samples in these calls.
        exits: Samples that left after each segment.
        macs: Mean multiply-accumulates of a sample; None before the first.
        energy_mj: Mean modelled energy of a sample; None before the first.

    Example:
        >>> Stats(calls=1, samples=4, exits=(3, 1), macs=175.0, energy_mj=0.2).exit_shares
        (0.75, 0.25)
    """

    calls: int
    samples: int
    exits: tuple[int, ...]
    macs: float | None
    energy_mj: float | None

    @property
    def exit_shares(self) -> tuple[float, ...]:
        """Share of the samples that left after each segment; zeros before the first sample."""
        return tuple(count / max(self.samples, 1) for count in self.exits)


def tally(segments: Sequence[Segment], calls: int, exits: NDArray[np.int64]) -> Stats:
    """Cost of samples that left after each segment: all segments up to there were computed."""
    samples = int(exits.sum())

    def mean(costs: list[float]) -> float | None:
        return float(np.cumsum(costs) @ exits) / samples if samples else None

    return Stats(calls=calls, samples=samples, exits=tuple(exits.tolist()),
                 macs=mean([float(segment.macs) for segment in segments]),
                 energy_mj=mean([segment.energy_mj for segment in segments]))


class Counters:
    """Counts calls and exits; safe to use from several threads."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._lock = threading.Lock()
        self._calls = 0
        self._exits = np.zeros(len(segments), dtype=np.int64)

    def add(self, exits: NDArray[Any]) -> None:
        """Count one call whose samples left after these segments."""
        counts = np.bincount(exits, minlength=len(self._segments))
        with self._lock:
            self._calls += 1
            self._exits += counts

    def stats(self) -> Stats:
        """The counters at this moment."""
        with self._lock:
            calls, exits = self._calls, self._exits.copy()
        return tally(self._segments, calls, exits)
