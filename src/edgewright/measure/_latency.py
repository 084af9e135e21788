"""Latency measurements that stay comparable on a machine whose speed drifts."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    def of(cls, times_ns: Sequence[int] | NDArray[np.int64]) -> Latency:
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
                    warmup: int = 10, in_a_row: int = 1,
                    quietest: float = 1.0) -> dict[str, Latency]:
    """Time several callables interleaved, so that speed drift affects all of them equally.

    In each round every candidate runs ``in_a_row`` times, called with the number of the run (for
    example to pick a sample), and the order of the candidates rotates. Garbage collection is off
    during the measurement. Report the ratios between candidates rather than the absolute times.

    Args:
        candidates: What to time, by name.
        rounds: Number of rounds.
        warmup: Untimed runs of each candidate before the first round.
        in_a_row: Timed runs of a candidate per round. With more than one, an untimed run precedes
            them, so that the others have not displaced the candidate from the processor's caches.
        quietest: Share of the rounds that count: those in which all candidates together took the
            least time. Other programs only ever add time, so that the rest says more about them.

    Raises:
        UsageError: There are no candidates, ``rounds`` or ``in_a_row`` is below 1, ``warmup`` is
            below 0, or ``quietest`` is not above 0 and at most 1.

    Example:
        >>> found = compare_latency({"a": abs, "b": float}, rounds=4, warmup=1)
        >>> sorted(found), found["a"].runs
        (['a', 'b'], 4)
    """
    if not candidates or min(rounds, in_a_row) < 1 or warmup < 0 or not 0 < quietest <= 1:
        raise UsageError(f"cannot time {len(candidates)} candidates in {rounds} rounds of "
                         f"{in_a_row} runs after {warmup} warm-up rounds, of which a share of "
                         f"{quietest:g} counts; give at least one candidate, one round and one "
                         "run, no negative numbers, and a share of at most 1")
    times_ns = time_in_turn(candidates, rounds, warmup, in_a_row)
    totals = np.sum([np.median(rows, axis=1) for rows in times_ns.values()], axis=0)
    kept = np.argsort(totals, kind="stable")[:max(1, round(quietest * rounds))]
    return {name: Latency.of(rows[kept].ravel()) for name, rows in times_ns.items()}


def time_in_turn(candidates: Mapping[str, Callable[[int], object]], rounds: int, warmup: int,
                 in_a_row: int = 1) -> dict[str, NDArray[np.int64]]:
    """The times of every candidate, in nanoseconds, (rounds, in_a_row); see `compare_latency`.

    Example:
        >>> [times.shape for times in time_in_turn({"a": abs, "b": float}, 4, 1).values()]
        [(4, 1), (4, 1)]
    """
    names = list(candidates)
    times_ns: dict[str, list[list[int]]] = {name: [] for name in names}
    with _no_garbage_collection():
        for index in range(warmup):
            for fn in candidates.values():
                fn(index)
        for index in range(rounds):
            first = index % len(names)
            for name in names[first:] + names[:first]:
                times_ns[name].append(_time_row(candidates[name], index * in_a_row, in_a_row))
    return {name: np.asarray(rows, dtype=np.int64) for name, rows in times_ns.items()}


def _time_row(fn: Callable[[int], object], first: int, count: int) -> list[int]:
    """The times of some runs in a row, after an untimed one if there are several."""
    if count > 1:
        fn(first)
    return [_time_ns(fn, first + place) for place in range(count)]


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
