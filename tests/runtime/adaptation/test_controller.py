"""The controller over a simulated clock: load comes and goes, batteries drain, nothing flaps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core import Figures, Measurement, OperatingPoint
from edgewright.errors import UsageError
from edgewright.runtime import Power
from edgewright.runtime.adaptation import (
    CallableSensor,
    Controller,
    DevicePressure,
    FileSensor,
    SensorWarning,
)
from edgewright.runtime.adaptation._controller import nominal_costs

LATENCIES = (4.0, 2.0, 1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _point(name: str, **figures: float) -> OperatingPoint:
    return OperatingPoint(name=name, path=(0,), figures=Figures.of(*(
        Measurement(name=figure, value=value, kind="measured")
        for figure, value in figures.items())))


def _points(latencies: Any = LATENCIES) -> list[OperatingPoint]:
    return [_point(f"p{ms}", mean_latency_ms=ms) for ms in latencies]


@dataclass
class Run:
    """A device: what a call takes at a time, and all that the controller did."""

    controller: Controller
    clock: Clock
    takes: Callable[[int, float], float]   # number of the point, time -> ms
    pause_s: float = 0.0
    times: list[float] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    def until(self, end_s: float) -> Run:
        while self.clock.now < end_s:
            index = self.controller.choose()
            ms = self.takes(index, self.clock.now)
            self.clock.now += ms / 1000
            self.controller.record(index, ms)
            self.times.append(self.clock.now)
            self.chosen.append(index)
            self.took.append(ms)
            self.clock.now += self.pause_s
        return self

    def p95(self, start_s: float, end_s: float) -> float:
        chosen = [ms for at, ms in zip(self.times, self.took, strict=True) if start_s <= at < end_s]
        return float(np.percentile(chosen, 95))


def _run(takes: Any, deadline_ms: float | None = 5.0, points: Any = None, **settings: Any) -> Run:
    clock = Clock()
    controller = Controller(points or _points(), clock=clock)
    controller.deadline_ms = deadline_ms
    return Run(controller, clock, takes, **settings)


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
@pytest.mark.parametrize(("deadline_ms", "cheaper"), [(6.5, 1), (6.0, 1), (4.8, 2)])
def test_it_gives_way_to_a_load_within_a_second_and_comes_back(pause_s: float, deadline_ms: float,
                                                               cheaper: int) -> Any:
    """The load doubles every latency between 10 s and 20 s."""
    rng = np.random.default_rng(0)

    def takes(index: Any, now: Any) -> Any:
        return LATENCIES[index] * (2 if 10 <= now < 20 else 1) * rng.uniform(0.97, 1.03)

    run = _run(takes, deadline_ms, pause_s=pause_s).until(40)
    by_time = dict(zip(run.times, run.chosen, strict=True))
    assert {index for at, index in by_time.items() if at < 10} == {0}
    assert {index for at, index in by_time.items() if 11 <= at < 20} == {cheaper}
    assert run.p95(11, 20) < deadline_ms
    assert {index for at, index in by_time.items() if at > 38} == {0}
    assert run.p95(0, 10) < deadline_ms
    assert len(run.controller.trace) <= 4
    first = run.controller.trace[0]
    assert (first.before, first.after) == (0, cheaper)
    assert 10 < first.time_s < 11
    assert first.reason.startswith("p95 ")
    assert first.reason.endswith(f"above 0.9 of {deadline_ms:g} ms")


def test_coming_back_is_quick_where_there_is_room() -> None:
    run = _run(lambda index, now: LATENCIES[index] * (2 if 10 <= now < 20 else 1), 6.5).until(40)
    back = [change.time_s for change in run.controller.trace if change.after == 0]
    assert len(back) == 1
    assert 20 < back[0] < 22.5


def test_what_points_save_is_learnt_where_figures_promise_more() -> None:
    """Sixteen times the MACs, yet only twice the latency: it still comes back."""
    points = [_point("best", macs=1600), _point("fast", macs=100)]
    run = _run(lambda index, now: (4.0, 2.0)[index] * (2 if 5 <= now < 10 else 1), 6.0,
               points=points).until(20)
    assert [(change.before, change.after) for change in run.controller.trace] == [(0, 1), (1, 0)]
    assert run.controller.trace[1].time_s < 12.5


@pytest.mark.parametrize("spread", [0.02, 0.2])
@pytest.mark.parametrize("level", [0.75, 0.85, 0.9, 1.0])
def test_noise_around_the_limit_does_not_flap(spread: float, level: float) -> None:
    rng = np.random.default_rng(0)
    run = _run(lambda index, _: LATENCIES[index] / 4 * 5 * level * rng.lognormal(0, spread),
               pause_s=0.016).until(200)
    trace = run.controller.trace
    assert len(trace) <= 20
    assert sum(change.time_s > 100 for change in trace) <= 6


def test_one_slow_call_in_a_hundred_changes_nothing() -> None:
    counter = iter(range(10_000))
    run = _run(lambda index, _: 50.0 if next(counter) % 100 == 99 else LATENCIES[index], 6.0,
               pause_s=0.05).until(60)
    assert run.controller.trace == ()


def test_a_deadline_that_nothing_holds_ends_at_the_cheapest() -> None:
    run = _run(lambda index, _: LATENCIES[index] * 10).until(5)
    assert run.chosen[-1] == 2
    assert len(run.controller.trace) == 1


def test_without_a_deadline_no_latency_matters() -> None:
    run = _run(lambda index, _: LATENCIES[index] * 10, deadline_ms=None).until(3)
    assert set(run.chosen) == {0}


def test_a_deadline_lifted_lets_everything_be_used() -> None:
    run = _run(lambda index, _: LATENCIES[index] * 10).until(2)
    run.controller.deadline_ms = None
    assert run.controller.choose() == 0
    assert run.controller.trace[-1].reason == "the deadline was removed"


@pytest.mark.parametrize(("power", "latency_ms"), [("auto", 4.0), ("high", 8.0), ("balanced", 2.0),
                                                   ("low", 0.5)])
def test_power_modes(power: Power, latency_ms: float) -> None:
    """The default is given first, whatever it costs."""
    latencies = (4.0, 8.0, 2.0, 0.5, 1.0)
    controller = Controller(_points(latencies), clock=Clock())
    controller.power = power
    assert latencies[controller.choose()] == latency_ms


def test_balanced_is_the_dearer_of_the_middle_two() -> None:
    controller = Controller(_points((8.0, 4.0, 2.0, 1.0)), clock=Clock())
    controller.power = "balanced"
    assert controller.choose() == 1


def test_high_still_gives_way_to_the_deadline() -> None:
    run = _run(lambda index, now: LATENCIES[index] * (2 if now > 2 else 1), 6.0)
    run.controller.power = "high"
    run.until(5)
    assert run.chosen[0] == 0
    assert run.chosen[-1] == 1


def _sensed(pressure: Callable[[], float], points: Any = None) -> tuple[Controller, Clock]:
    clock = Clock()
    sensed = DevicePressure([CallableSensor(pressure, "pressure", "it")], period_s=0.1, clock=clock)
    return Controller(points or _points(), pressure=sensed, clock=clock), clock


def test_a_battery_that_drains_and_is_charged() -> None:
    state = {"charge": 0.9}
    clock = Clock()
    pressure = DevicePressure([CallableSensor(lambda: state["charge"], "charge", "pack")], clock=clock)
    controller = Controller(_points(), pressure=pressure, clock=clock)
    seen = []
    for state["charge"] in (0.9, 0.5, 0.35, 0.2, 0.05):
        clock.now += 10
        seen.append(controller.choose())
    assert seen == [0, 0, 1, 2, 2]
    assert controller.trace[0].reason == "charge of pack 0.35"
    state["charge"] = 1.0
    clock.now += 10
    assert controller.choose() == 2   # not at once
    clock.now += 6
    assert controller.choose() == 0
    assert controller.trace[-1].reason == "power auto: no resource pressure"


def test_a_reading_that_swings_about_a_step_does_not_flap() -> None:
    rng = np.random.default_rng(0)
    controller, clock = _sensed(lambda: float(np.clip(1 / 3 + rng.normal(0, 0.05), 0, 1)))
    for _ in range(6000):
        clock.now += 0.1
        controller.choose()
    assert len(controller.trace) <= 2


def test_a_missing_sensor_leaves_the_default(tmp_path: Path) -> Any:
    clock = Clock()
    pressure = DevicePressure([FileSensor(tmp_path / "none", "charge")], clock=clock)
    default = [_point("default", macs=50), _point("dearest", macs=90), _point("least", macs=10)]
    controller = Controller(default, pressure=pressure, clock=clock)

    def chosen_in_20_s() -> set[int]:
        chosen = set()
        for clock.now in range(20):
            chosen.add(controller.choose())
        return chosen

    with pytest.warns(SensorWarning) as caught:
        assert chosen_in_20_s() == {0}
    assert len(caught) == 1


PLAN = st.lists(st.tuples(
    st.sampled_from(["call", "power", "deadline", "pressure"]), st.floats(0.0, 1.0)), max_size=80)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.5, 50), min_size=1, max_size=5), PLAN)
def test_always_a_point_that_exists_and_none_above_the_ceiling(costs: Any, plan: Any) -> None:
    state = {"pressure": 0.0}
    controller, clock = _sensed(lambda: state["pressure"], _points(costs))
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -index))
    for what, value in plan:
        if what == "power":
            controller.power = ("auto", "high", "balanced", "low")[int(value * 3.99)]
        elif what == "deadline":
            controller.deadline_ms = value * 50 or None
        elif what == "pressure":
            state["pressure"] = value
        for _ in range(12):
            clock.now += 0.1
            index = controller.choose()
            controller.record(index, costs[index] * (1 + 3 * value))
        rank, default = order.index(index), order.index(0)
        ceilings = {"high": len(costs) - 1, "balanced": len(costs) // 2, "low": 0,
                    "auto": default - min(int(state["pressure"] * (default + 1)), default)}
        assert 0 <= rank <= ceilings[controller.power]
    for before, after in zip(controller.trace, controller.trace[1:], strict=False):
        assert before.after == after.before
        assert before.time_s <= after.time_s


def test_threads_may_share_it() -> None:
    controller = Controller(_points())
    controller.deadline_ms = 1.0
    failures = []

    def call() -> None:
        for _ in range(2000):
            index = controller.choose()
            if index not in range(3):
                failures.append(index)
            controller.record(index, 5.0)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.06)
    assert failures == []
    assert controller.choose() == 2


def test_calls_that_took_another_point_are_let_go() -> None:
    clock = Clock()
    controller = Controller(_points(), clock=clock)
    controller.deadline_ms = 5.0
    controller.choose()
    for _ in range(100):
        clock.now += 0.05
        controller.record(2, 50.0)
        assert controller.choose() == 0


def test_costs_are_the_best_that_all_points_know() -> None:
    both = [_point("a", mean_latency_ms=3, macs=9), _point("b", mean_latency_ms=2, macs=8)]
    assert nominal_costs(both) == [3, 2]
    assert nominal_costs([both[0], _point("b", macs=8)]) == [9, 8]
    assert nominal_costs([both[0], _point("b")]) == [1.0, 0.5]
    assert nominal_costs([both[0], _point("b", macs=0)]) == [1.0, 0.5]


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        Controller([])
    controller = Controller(_points())
    with pytest.raises(UsageError, match=r"'turbo' is unknown; expected one of \('auto', 'high'"):
        controller.power = "turbo"  # type: ignore[assignment]
    for deadline_ms in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="deadline_ms must be above 0, or None"):
            controller.deadline_ms = deadline_ms
    for index in (-1, 3):
        with pytest.raises(UsageError, match=f"no operating point {index}; they are 0 to 2"):
            controller.record(index, 1.0)
