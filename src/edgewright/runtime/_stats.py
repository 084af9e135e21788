"""What a session has done so far, and what it cost."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import OperatingPoint, Segment
from edgewright.runtime._percentiles import Latencies, Percentiles


@dataclass(frozen=True)
class Stats:
    """Counters of a session, taken at one moment.

    Attributes:
        calls: Calls of the session.
        samples: Samples in these calls.
        exits: Samples that left after each segment, by its number in the manifest.
        macs: Mean multiply-accumulates of a sample; None before the first.
        energy_mj: Mean energy of a sample, modelled from counts; None before the first.
        points: Samples that went through each operating point, by its name.
        cut_short: Samples that left because time was up, surer or not.
        late: Calls that took longer than their deadline.
        latency: Of the last calls; None before the first.

    Example:
        >>> Stats(calls=1, samples=4, exits=(3, 1), macs=175.0, energy_mj=0.2).exit_shares
        (0.75, 0.25)
    """

    calls: int
    samples: int
    exits: tuple[int, ...]
    macs: float | None
    energy_mj: float | None
    points: Mapping[str, int] = field(default_factory=dict)
    cut_short: int = 0
    late: int = 0
    latency: Percentiles | None = None

    @property
    def exit_shares(self) -> tuple[float, ...]:
        """Share of the samples that left after each segment; zeros before the first sample."""
        return tuple(count / max(self.samples, 1) for count in self.exits)


@final
class Counters:
    """Counts calls and exits; safe to use from several threads.

    Args:
        segments: Of the manifest.
        points: Of the manifest.
    """

    def __init__(self, segments: Sequence[Segment], points: Sequence[OperatingPoint]) -> None:
        self._segments = segments
        self._points = points
        self._lock = threading.Lock()
        self._calls = self._cut_short = self._late = 0
        self._left = [[0] * len(point.path) for point in points]
        self._latencies = Latencies()

    def add(self, point: int, exits: Sequence[int], latency_ms: float, *, cut_short: int = 0,
            late: bool = False) -> None:
        """Count one call whose samples left at these steps of a point's path."""
        self._latencies.add(latency_ms)
        counts = self._left[point]
        with self._lock:
            self._calls += 1
            self._cut_short += cut_short
            self._late += late
            for step in exits:
                counts[step] += 1

    def stats(self) -> Stats:
        """The counters at this moment."""
        with self._lock:
            left = [np.array(counts) for counts in self._left]
            calls, cut_short, late = self._calls, self._cut_short, self._late
        exits = np.zeros(len(self._segments), dtype=np.int64)
        for point, counts in zip(self._points, left, strict=True):
            np.add.at(exits, list(point.path), counts)
        samples = int(exits.sum())
        passed = self._passed(left)
        macs = np.array([segment.macs for segment in self._segments], dtype=np.float64)
        energy = np.array([segment.energy_mj for segment in self._segments])
        return Stats(
            calls=calls, samples=samples, exits=tuple(exits.tolist()),
            macs=float(macs @ passed) / samples if samples else None,
            energy_mj=float(energy @ passed) / samples if samples else None,
            points={point.name: int(counts.sum())
                    for point, counts in zip(self._points, left, strict=True)},
            cut_short=cut_short, late=late, latency=self._latencies.percentiles())

    def _passed(self, left: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """How many samples each segment computed: those that left there or further on."""
        passed = np.zeros(len(self._segments), dtype=np.int64)
        for point, counts in zip(self._points, left, strict=True):
            np.add.at(passed, list(point.path), counts[::-1].cumsum()[::-1])
        return passed
