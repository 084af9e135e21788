"""Statistics of a session's calls."""

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
    """A snapshot of a session's counters.

    Attributes:
        calls: Number of calls.
        samples: Number of samples in these calls.
        exits: Samples that left after each segment, by segment number.
        macs: Mean multiply-accumulates per sample; None before the first.
        energy_mj: Mean modelled energy per sample, in millijoules; None before the first.
        points: Samples that ran each operating point, by name.
        cut_short: Samples that left because of the deadline, below the exit's threshold.
        late: Calls that took longer than their deadline.
        latency: Percentiles of the most recent calls; None before the first.
        computed: Samples that each segment ran on, by segment number.

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
    computed: tuple[int, ...] = ()

    @property
    def exit_shares(self) -> tuple[float, ...]:
        """Share of the samples that left after each segment; zeros before the first sample."""
        return tuple(count / max(self.samples, 1) for count in self.exits)


@final
class Counters:
    """Counts calls and exits; safe to use from several threads.

    Args:
        segments: The bundle's segments.
        points: The bundle's operating points.
    """

    def __init__(self, segments: Sequence[Segment], points: Sequence[OperatingPoint]) -> None:
        self._segments = segments
        self._points = points
        self._lock = threading.Lock()
        self._calls = self._cut_short = self._late = 0
        self._left = [[0] * len(point.path) for point in points]
        self._routed = np.zeros(len(segments), dtype=np.int64)
        self._latencies = Latencies()

    def add(self, point: int, exits: Sequence[int], latency_ms: float, *, cut_short: int = 0,
            late: bool = False, computed: Sequence[int] = ()) -> None:
        """Count one call.

        Args:
            point: Number of its operating point.
            exits: The steps of the path after which its samples left.
            latency_ms: Its latency.
            cut_short: Samples that left because of the deadline.
            late: Whether it took longer than its deadline.
            computed: Samples that each segment of a routed model ran on.
        """
        self._latencies.add(latency_ms)
        counts = self._left[point]
        with self._lock:
            self._calls += 1
            self._cut_short += cut_short
            self._late += late
            if computed:
                self._routed += computed
            for step in exits:
                counts[step] += 1

    def stats(self) -> Stats:
        """A snapshot of the counters."""
        with self._lock:
            left = [np.array(counts) for counts in self._left]
            calls, cut_short, late = self._calls, self._cut_short, self._late
            routed = self._routed.copy()
        exits = np.zeros(len(self._segments), dtype=np.int64)
        for point, counts in zip(self._points, left, strict=True):
            np.add.at(exits, list(point.path), counts)
        samples = int(exits.sum())
        computed = routed if routed.any() else self._samples_per_segment(left)
        macs = np.array([segment.macs for segment in self._segments], dtype=np.float64)
        energy = np.array([segment.energy_mj for segment in self._segments])
        return Stats(
            calls=calls, samples=samples, exits=tuple(exits.tolist()),
            macs=float(macs @ computed) / samples if samples else None,
            energy_mj=float(energy @ computed) / samples if samples else None,
            points={point.name: int(counts.sum())
                    for point, counts in zip(self._points, left, strict=True)},
            cut_short=cut_short, late=late, latency=self._latencies.percentiles(),
            computed=tuple(computed.tolist()))

    def _samples_per_segment(self, left: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Number of samples each segment computed: those that left there or later."""
        computed = np.zeros(len(self._segments), dtype=np.int64)
        for point, counts in zip(self._points, left, strict=True):
            np.add.at(computed, list(point.path), counts[::-1].cumsum()[::-1])
        return computed
