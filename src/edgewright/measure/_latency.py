"""Latency measurements that stay comparable on a machine whose speed drifts."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from edgewright.errors import UsageError


@dataclass(frozen=True)
class Latency:
    """Latency of one callable over several runs, in milliseconds.

    Attributes:
        median_ms: Median.
        mean_ms: Mean.
        low_ms: 10th percentile.
        high_ms: 90th percentile.
        runs: Number of runs.

    Example:
        >>> Latency.of([1_000_000, 2_000_000, 6_000_000]).mean_ms
        3.0
    """

    median_ms: float
    mean_ms: float
    low_ms: float
    high_ms: float
    runs: int

    @classmethod
    def of(cls, times_ns: list[int]) -> Latency:
        """Summarize the times, in nanoseconds, of at least one run."""
        times_ms = np.asarray(times_ns, dtype=np.float64) / 1e6
        low, median, high = np.percentile(times_ms, (10, 50, 90)).tolist()
        return cls(median_ms=median, mean_ms=float(times_ms.mean()), low_ms=low, high_ms=high,
                   runs=len(times_ns))


def measure_latency(fn: Callable[[int], object], *, runs: int = 100,
                    warmup: int = 10) -> Latency:
    """Time ``fn(index)``, with index counting from 0, after ``warmup`` untimed runs.

    Raises:
        UsageError: ``runs`` is below 1 or ``warmup`` below 0.

    Example:
        >>> measure_latency(lambda index: sum(range(index)), runs=5, warmup=1).runs
        5
    """
    return compare_latency({"": fn}, rounds=runs, warmup=warmup)[""]


def compare_latency(candidates: Mapping[str, Callable[[int], object]], *, rounds: int = 100,
                    warmup: int = 10) -> dict[str, Latency]:
    """Time several callables interleaved, so that speed drift affects all of them equally.

    In each round every candidate runs once, called with the round's index (for example to pick a
    sample), and the order rotates. Garbage collection is off during the measurement. Report the
    ratios between candidates rather than the absolute times.

    Raises:
        UsageError: There are no candidates, ``rounds`` is below 1, or ``warmup`` is below 0.

    Example:
        >>> found = compare_latency({"a": abs, "b": float}, rounds=4, warmup=1)
        >>> sorted(found), found["a"].runs
        (['a', 'b'], 4)
    """
    if not candidates or rounds < 1 or warmup < 0:
        raise UsageError(f"cannot time {len(candidates)} candidates in {rounds} rounds after "
                         f"{warmup} warm-up rounds; give at least one candidate and one round, "
                         "and no negative numbers")
    return {name: Latency.of(times)
            for name, times in time_in_turn(candidates, rounds, warmup).items()}


def time_in_turn(candidates: Mapping[str, Callable[[int], object]], rounds: int,
                 warmup: int) -> dict[str, list[int]]:
    """The times of every candidate in each round, in nanoseconds; see `compare_latency`.

    Example:
        >>> [len(times) for times in time_in_turn({"a": abs, "b": float}, 4, 1).values()]
        [4, 4]
    """
    names = list(candidates)
    times_ns: dict[str, list[int]] = {name: [] for name in names}
    with _no_garbage_collection():
        for index in range(warmup):
            for fn in candidates.values():
                fn(index)
        for index in range(rounds):
            first = index % len(names)
            for name in names[first:] + names[:first]:
                times_ns[name].append(_time_ns(candidates[name], index))
    return times_ns


def _time_ns(fn: Callable[[int], object], index: int) -> int:
    start = time.perf_counter_ns()
    fn(index)
    return time.perf_counter_ns() - start


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def pin_to_core() -> Iterator[int | None]:
    """Pin the calling thread, and threads it starts meanwhile, to one core.

    Yields the core's number, or None if the platform does not support it; restores the previous
    affinity.

    Example:
        >>> with pin_to_core() as core:
        ...     core is None or core in os.sched_getaffinity(0)
        True
    """
    if sys.platform != "linux":
        yield None
        return
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)
