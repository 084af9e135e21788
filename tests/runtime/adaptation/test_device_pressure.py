"""From readings to one pressure; a sensor that fails is reported once and left out."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

from edgewright.errors import SensorError, UsageError
from edgewright.runtime.adaptation import (
    BatterySensor,
    CallableSensor,
    DevicePressure,
    SensorWarning,
    ThermalSensor,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _one(quantity: Any, reading: Any) -> DevicePressure:
    return DevicePressure([CallableSensor(lambda: reading, quantity, "it")])


@pytest.mark.parametrize(("quantity", "reading", "pressure"), [
    ("charge", 1.0, 0.0), ("charge", 0.5, 0.0), ("charge", 0.3, 0.5), ("charge", 0.1, 1.0),
    ("charge", 0.0, 1.0), ("temperature", -5.0, 0.0), ("temperature", 60.0, 0.0),
    ("temperature", 75.0, 0.75), ("temperature", 95.0, 1.0), ("pressure", 0.6, 0.6),
])
def test_pressure_of_a_reading(quantity: str, reading: float, pressure: float) -> None:
    device = _one(quantity, reading)
    assert device.level == pytest.approx(pressure)
    assert device.cause == (f"{quantity} of it {reading:.3g}" if pressure else "")
    assert device.faults == {}


def test_the_hardest_pressing_counts() -> None:
    pressure = DevicePressure([CallableSensor(lambda: 0.4, "charge", "pack"),
                     CallableSensor(lambda: 76, "temperature", "board")])
    assert pressure.level == pytest.approx(0.8)
    assert pressure.cause == "temperature of board 76"


def test_a_sensor_is_read_once_a_period() -> None:
    clock, reads = Clock(), []

    def read() -> float:
        reads.append(clock.now)
        return 0.2

    pressure = DevicePressure([CallableSensor(read, "charge", "pack")], period_s=2.0, clock=clock)
    for tenth in range(50):
        clock.now = tenth / 10
        assert pressure.level == pytest.approx(0.75)
    assert reads == [0.0, 2.0, 4.0]


@pytest.mark.parametrize(("reading", "message"), [
    (math.nan, "a charge of nan; expected 0 to 1"),
    (37, "a charge of 37.0; expected 0 to 1"),
    (OSError("unplugged"), "OSError: unplugged"),
    (ValueError(), "ValueError"),
])
def test_a_failing_sensor_is_reported_once_and_left_out_until_it_answers(reading: Any,
                                                                         message: str) -> Any:
    clock, state = Clock(), {"reading": reading}

    def read() -> Any:
        if isinstance(state["reading"], Exception):
            raise state["reading"]
        return state["reading"]

    pressure = DevicePressure([CallableSensor(read, "charge", "pack"),
                     CallableSensor(lambda: 64, "temperature", "board")], clock=clock)
    with pytest.warns(SensorWarning, match="'pack' is ignored until it works again") as caught:
        assert pressure.level == pytest.approx(0.2)   # the board's
    assert len(caught) == 1
    assert message in pressure.faults["pack"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clock.now = 1.0
        assert pressure.level == pytest.approx(0.2)
        state["reading"], clock.now = 0.1, 2.0
        assert pressure.level == 1.0
        assert pressure.faults == {}
        state["reading"], clock.now = reading, 3.0   # again: not reported a second time
        assert pressure.level == pytest.approx(0.2)
        assert set(pressure.faults) == {"pack"}


def test_a_sensor_of_ones_own_may_raise_as_it_likes() -> None:
    class Broken:
        name: str = "own"
        quantity: Literal["pressure"] = "pressure"

        def read(self) -> NoReturn:
            raise SensorError("no answer on the bus")

    with pytest.warns(SensorWarning, match="no answer on the bus"):
        assert DevicePressure([Broken()]).level == 0.0


def test_a_device_without_files_is_not_pressed(tmp_path: Path) -> None:
    pressure = DevicePressure([BatterySensor(tmp_path), ThermalSensor(tmp_path)])
    with pytest.warns(SensorWarning) as caught:
        assert pressure.level == 0.0
    assert len(caught) == 2
    assert set(pressure.faults) == {"battery", "thermal"}


def test_what_is_refused() -> None:
    twice = [ThermalSensor("/a"), ThermalSensor("/b")]
    with pytest.raises(UsageError, match=r"different names, got \['thermal', 'thermal'\]"):
        DevicePressure(twice)
    with pytest.raises(UsageError, match=r"\['volt'\]; a sensor's quantity is one of \['charge'"):
        DevicePressure([CallableSensor(lambda: 1, "volt", "v")])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least 0 seconds, got -1"):
        DevicePressure([], period_s=-1)
