"""The deadline's rule, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgewright.runtime.adaptation._deadline import DeadlineLoop

CALLS = 20   # at each step, 10 ms apart


class Stepper:
    """Feeds a loop steps of 0.2 s of calls, each of the given latency, at the limit's rank."""

    def __init__(self, costs: Any, deadline_ms: Any) -> None:
        self.loop = DeadlineLoop(costs)
        self.loop.set_deadline(deadline_ms)
        self.now, self.rank = 0.0, self.loop.limit

    def step(self, latency_ms: float) -> str:
        for _ in range(CALLS):
            self.now += 0.01
            self.loop.add(self.now, latency_ms)
        said = self.loop.decide(self.now, self.rank)
        if self.loop.limit != self.rank:
            self.loop.forget_latencies(self.now, self.rank)
            self.rank = self.loop.limit
        return said

    def rise_s(self, latency_ms: float) -> float:
        """How long it takes to rise."""
        start, rank = self.now, self.rank
        while self.rank == rank and self.now < start + 100:
            self.step(latency_ms)
        return self.now - start


@pytest.mark.parametrize(("latency_ms", "rank"), [(8.9, 3), (9.1, 2), (15.9, 2), (16.1, 1),
                                                  (32.1, 0), (640, 0)])
def test_it_falls_to_the_dearest_that_is_expected_to_fit(latency_ms: float, rank: int) -> None:
    stepper = Stepper([1, 2, 4, 8], 10)
    said = stepper.step(latency_ms)
    assert stepper.rank == rank
    assert said == ("" if rank == 3 else f"p95 {latency_ms:.3g} ms above 0.9 of 10 ms")


def test_seven_calls_decide_nothing() -> None:
    loop = DeadlineLoop([1, 2])
    loop.set_deadline(1.0)
    for call in range(7):
        loop.add(call / 1000, 50.0)
        assert loop.decide(call / 1000, 1) == ""
    assert loop.limit == 1


@pytest.mark.parametrize(("latency_ms", "rises_s"), [(3.4, 1.2), (4.0, 10.2), (4.4, 100)])
def test_it_rises_after_one_hold_or_ten_or_never(latency_ms: float, rises_s: float) -> None:
    stepper = Stepper([1, 2], 10)
    stepper.step(20)
    stepper.step(10)   # half the cost is half the latency here
    assert stepper.rank == 0
    assert stepper.rise_s(latency_ms) == pytest.approx(rises_s, abs=1.01 if rises_s < 100 else 0.3)


def test_a_failed_rise_doubles_the_hold_and_a_lasting_one_restores_it() -> None:
    stepper = Stepper([1, 2], 10)
    stepper.step(20)
    stepper.step(10)
    holds = []
    for _ in range(7):
        holds.append(stepper.rise_s(3.0))
        stepper.step(20)   # taken back at once
        stepper.step(10)
    np.testing.assert_allclose(holds, [1, 2, 4, 8, 16, 30, 30], atol=1.3)
    assert stepper.rise_s(3.0) == pytest.approx(30, abs=1.3)
    for _ in range(650):   # 130 s: it lasts
        stepper.step(6.0)
    stepper.step(200)
    stepper.step(10)
    assert stepper.rank == 0
    assert stepper.rise_s(3.0) == pytest.approx(1, abs=1.3)


def test_what_a_change_saves_is_learnt() -> None:
    stepper = Stepper([1, 16], 10)
    stepper.step(12)
    assert stepper.rank == 0
    for _ in range(6):
        stepper.step(3)   # a quarter, where a sixteenth was promised: dearer is expected to be 12
    assert stepper.rise_s(1.6) < 3   # and now 6.4


def test_no_deadline_allows_everything() -> None:
    stepper = Stepper([1, 2, 4], 5)
    stepper.step(100)
    assert stepper.rank == 0
    stepper.loop.set_deadline(None)
    assert stepper.loop.limit == 2
    assert stepper.step(100) == ""
    assert stepper.loop.limit == 2


def test_late_at_the_cheapest_keeps_the_limit_there() -> None:
    loop = DeadlineLoop([1, 2])   # at rank 0 for another reason, the limit still 1
    loop.set_deadline(1.0)
    for call in range(8):
        loop.add(call / 100, 50.0)
    assert loop.decide(0.1, 0).startswith("p95 50 ms")
    assert loop.limit == 0
