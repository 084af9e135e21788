"""Percentiles of the latest calls, against numpy on a plain list."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.errors import UsageError
from edgewright.runtime import Percentiles
from edgewright.runtime._percentiles import Latencies


def test_nothing_is_known_before_the_first_call() -> None:
    assert Latencies().percentiles() is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.integers(1, 20))
def test_they_are_those_of_the_calls_kept(times: Any, keep: Any) -> None:
    latencies = Latencies(keep=keep)
    for ms in times:
        latencies.add(ms)
    kept = times[-keep:]
    p50, p95, p99 = np.percentile(kept, (50, 95, 99))
    found = latencies.percentiles()
    assert found is not None
    assert found.calls == len(kept)
    np.testing.assert_allclose([found.p50_ms, found.p95_ms, found.p99_ms], [p50, p95, p99])


def test_no_call_is_lost_between_threads() -> None:
    latencies = Latencies(keep=10_000)

    def add() -> None:
        for _ in range(500):
            latencies.add(3.0)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert latencies.percentiles() == Percentiles(p50_ms=3.0, p95_ms=3.0, p99_ms=3.0, calls=4000)


def test_keeping_no_calls_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 call, got 0"):
        Latencies(keep=0)
