"""Timing: what is run how often and in which order; never how long it takes."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgewright.errors import UsageError
from edgewright.measure import Latency, compare_latency, measure_latency, pin_to_core


def test_summary_is_that_of_the_runs() -> None:
    times_ns = [int(t) for t in np.random.default_rng(0).integers(100_000, 10_000_000, 57)]
    found = Latency.of(times_ns)
    ordered = sorted(times_ns)
    assert found.median_ms == ordered[28] / 1e6
    assert found.mean_ms == pytest.approx(sum(times_ns) / 57 / 1e6)
    assert ordered[5] / 1e6 <= found.low_ms <= ordered[6] / 1e6
    assert ordered[50] / 1e6 <= found.high_ms <= ordered[51] / 1e6
    assert found.runs == 57


def test_every_round_runs_each_candidate_once_and_rotates_who_is_first() -> None:
    calls: list[tuple[str, int]] = []

    def candidate(name: str) -> Callable[..., Any]:
        return lambda index: calls.append((name, index))

    found = compare_latency({name: candidate(name) for name in "abc"}, rounds=4, warmup=2)
    assert calls[:6] == [(name, index) for index in (0, 1) for name in "abc"]
    rounds = [calls[6 + 3 * index:9 + 3 * index] for index in range(4)]
    assert ["".join(name for name, _ in one) for one in rounds] == ["abc", "bca", "cab", "abc"]
    assert [{index for _, index in one} for one in rounds] == [{0}, {1}, {2}, {3}]
    assert list(found) == ["a", "b", "c"]
    assert {latency.runs for latency in found.values()} == {4}


def test_runs_in_a_row_follow_an_untimed_one() -> None:
    calls: list[tuple[str, int]] = []

    def candidate(name: str) -> Callable[..., Any]:
        return lambda index: calls.append((name, index))

    found = compare_latency({name: candidate(name) for name in "ab"}, rounds=2, warmup=0,
                            in_a_row=2)
    row = [("a", 0), ("a", 0), ("a", 1), ("b", 0), ("b", 0), ("b", 1)]
    assert calls[:6] == row
    assert calls[6:9] == [("b", 2), ("b", 2), ("b", 3)]
    assert found["a"].runs == 4


def test_only_the_quietest_rounds_count() -> None:
    found = compare_latency({"a": lambda index: time.sleep(0.03 if index % 2 else 0.001),
                             "b": abs}, rounds=8, warmup=0, quietest=0.5)
    assert found["a"].runs == found["b"].runs == 4
    assert found["a"].high_ms < 30


def test_measure_latency_counts_only_the_runs_after_the_warmup() -> None:
    calls: list[int] = []
    found = measure_latency(calls.append, runs=3, warmup=2)
    assert calls == [0, 1, 0, 1, 2]
    assert found.runs == 3
    assert 0 <= found.low_ms <= found.median_ms <= found.high_ms


def test_garbage_collection_is_off_meanwhile_and_on_again_after_an_error() -> None:
    seen: list[bool] = []

    def failing(index: int) -> None:
        seen.append(gc.isenabled())
        raise ValueError(index)

    with pytest.raises(ValueError, match="0"):
        measure_latency(failing)
    assert seen == [False]
    assert gc.isenabled()


def test_garbage_collection_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        measure_latency(lambda index: None, runs=1, warmup=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(("candidates", "settings"), [
    ({}, {}), ({"a": abs}, {"rounds": 0}), ({"a": abs}, {"warmup": -1}),
    ({"a": abs}, {"in_a_row": 0}), ({"a": abs}, {"quietest": 0.0}),
    ({"a": abs}, {"quietest": 1.5})])
def test_nothing_to_time(candidates: dict[str, Any], settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at least one candidate, one round and one run"):
        compare_latency(candidates, **settings)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its cores")
def test_pinned_holds_one_core_for_new_threads_too_and_restores() -> None:
    before = os.sched_getaffinity(0)
    inside: list[set[int]] = []
    with pin_to_core() as core:
        inside.append(os.sched_getaffinity(0))
        thread = threading.Thread(target=lambda: inside.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert inside == [{core}, {core}]
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its cores")
def test_pinned_restores_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), pin_to_core():
        raise KeyError
    assert os.sched_getaffinity(0) == before
