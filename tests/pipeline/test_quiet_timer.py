"""Measuring latencies again while other programs disturb the machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgewright.core import Figures, Measurement
from edgewright.pipeline import ORIGINAL, QuietTimer, RunLog
from edgewright.runtime import Session

SESSION: Any = object()


class Machine:
    """Takes the given milliseconds for the original, and one more for any other file."""

    def __init__(self, *milliseconds: float) -> None:
        self._left: Iterator[float] = iter(milliseconds)
        self.pauses: list[float] = []

    def measure(self, sessions: dict[str, Session], split: object) -> dict[str, Any]:
        taken = next(self._left)
        return {name: (Measurement(name="latency_ms", kind="measured",
                                   value=taken + (name != ORIGINAL)),) for name in sessions}

    def timer(self, patience: float = 60.0) -> QuietTimer:
        return QuietTimer(SESSION, patience, RunLog(quiet=True), self.measure,
                          self.pauses.append)


def latency(timed: dict[str, Any], name: str = "small") -> float:
    return Figures.of(*timed[name])["latency_ms"]


def test_a_quiet_machine_is_measured_once() -> None:
    machine = Machine(10.2, 10.0, 10.1, 10.7)
    timer = machine.timer()
    assert Figures.of(*timer.time_original(SESSION))["latency_ms"] == 10.0
    assert latency(timer.time({"small": SESSION}, SESSION)) == 11.7
    assert machine.pauses == [0.0]


def test_a_disturbed_measurement_is_repeated_until_the_machine_is_quiet() -> None:
    machine = Machine(10, 10, 10, 14, 12, 10.5)
    timer = machine.timer()
    timer.time_original(SESSION)
    assert latency(timer.time({"small": SESSION}, SESSION)) == 11.5
    assert machine.pauses == [0.0, 1.0, 3.0]


def test_the_quietest_attempt_counts_where_the_machine_stays_busy(
        capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(10, 10, 10, 14, 12, 13, 15)
    timer = QuietTimer(SESSION, 60.0, RunLog(), machine.measure, machine.pauses.append)
    timer.time_original(SESSION)
    assert latency(timer.time({"small": SESSION}, SESSION)) == 13
    said = " ".join("".join(capsys.readouterr()).split())
    assert "the original took 20% longer than at best" in said


def test_waiting_ends_with_the_patience() -> None:
    machine = Machine(10, 10, 10, 14, 13, 14)
    timer = machine.timer(patience=1e-9)
    timer.time_original(SESSION)
    assert latency(timer.time({"small": SESSION}, SESSION)) == 14
    assert latency(timer.time({"small": SESSION}, SESSION)) == 15
    assert machine.pauses == [0.0, 1.0, 0.0]


def test_without_patience_everything_is_measured_once() -> None:
    machine = Machine(10, 14)
    timer = machine.timer(patience=0.0)
    assert Figures.of(*timer.time_original(SESSION))["latency_ms"] == 10
    assert latency(timer.time({"small": SESSION}, SESSION)) == 15
    assert machine.pauses == [0.0]


def test_a_quieter_machine_is_what_later_measurements_are_compared_with() -> None:
    machine = Machine(20, 20, 20, 10, 12, 10)
    timer = machine.timer()
    timer.time_original(SESSION)
    assert latency(timer.time({"small": SESSION}, SESSION)) == 11
    assert latency(timer.time({"small": SESSION}, SESSION)) == 11
    assert machine.pauses == [0.0, 0.0, 1.0]


def test_the_first_measurement_of_files_finds_the_original_at_its_best() -> None:
    machine = Machine(10, 12, 14, 13, 10)
    assert latency(machine.timer().time({"small": SESSION}, SESSION)) == 11
    assert machine.pauses == [0.0, 1.0]
