"""Sensors over Linux's files, a file and a function; and all that can be missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import SensorError
from edgewright.runtime.adaptation import (
    BatterySensor,
    CallableSensor,
    FileSensor,
    Sensor,
    ThermalSensor,
)


def _supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(f"{text}\n")


def _battery(folder: Path, name: str = "BAT0", **files: str) -> None:
    _supply(folder, name, **{"type": "Battery", "status": "Discharging", **files})


@pytest.mark.parametrize(("files", "charge"), [
    ({"capacity": "37"}, 0.37),
    ({"energy_now": "20", "energy_full": "80"}, 0.25),
    ({"charge_now": "82", "charge_full": "80"}, 1.0),
    ({"capacity": "37", "status": "Unknown"}, 0.37),
    ({"capacity": "37", "status": "Charging"}, 1.0),
    ({"capacity": "37", "status": "Not charging"}, 1.0),
    ({"capacity": "99", "status": "Full"}, 1.0),
])
def test_one_battery(tmp_path: Path, files: dict[str, Any], charge: float) -> None:
    _battery(tmp_path, **files)
    assert BatterySensor(tmp_path).read() == pytest.approx(charge)


@pytest.mark.parametrize(("online", "charge"), [("1", 1.0), ("0", 0.2)])
def test_a_supply_that_is_online_is_mains(tmp_path: Path, online: str, charge: float) -> None:
    _battery(tmp_path, capacity="20")
    _supply(tmp_path, "AC", type="Mains", online=online)
    assert BatterySensor(tmp_path).read() == pytest.approx(charge)


def test_several_batteries_are_averaged(tmp_path: Path) -> None:
    _battery(tmp_path, "BAT0", capacity="20")
    _battery(tmp_path, "BAT1", capacity="80", status="Not charging")   # while the first is used
    assert BatterySensor(tmp_path).read() == pytest.approx(0.5)


def test_a_mouse_is_not_the_device(tmp_path: Path) -> None:
    _battery(tmp_path, "hidpp_battery_0", capacity="5", scope="Device")
    with pytest.raises(SensorError, match="no battery and no power supply"):
        BatterySensor(tmp_path).read()
    _supply(tmp_path, "AC", type="Mains", online="1")
    assert BatterySensor(tmp_path).read() == 1.0


def test_a_battery_without_a_charge(tmp_path: Path) -> None:
    _battery(tmp_path, capacity="many", energy_now="3")
    with pytest.raises(SensorError, match=r"cannot read the charge of \['BAT0'\].*capacity"):
        BatterySensor(tmp_path).read()


def test_the_hottest_zone_counts(tmp_path: Path) -> None:
    for name, text in {"thermal_zone0": "41000", "thermal_zone1": "67500", "thermal_zone2": "",
                       "thermal_zone3": "-274000", "thermal_zone4": "255000",
                       "cooling_device0": "99000"}.items():
        _supply(tmp_path, name, temp=text)
    (tmp_path / "thermal_zone5" / "temp").mkdir(parents=True)   # cannot be read as a file
    assert ThermalSensor(tmp_path).read() == 67.5


def test_no_zone(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match=r"no thermal zone in .* has a temperature"):
        ThermalSensor(tmp_path).read()


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "gauge"
    gauge = FileSensor(file, "temperature", scale=0.001)
    with pytest.raises(SensorError, match=r"cannot read a number from .*gauge: .*No such file"):
        gauge.read()
    file.write_text(" 61250\n")
    assert gauge.read() == pytest.approx(61.25)
    file.write_text("hot")
    with pytest.raises(SensorError, match=r"cannot read a number from .*could not convert.*'hot'"):
        gauge.read()


@pytest.mark.parametrize(("function", "message"), [
    (lambda: 1 / 0, "'pack' failed: ZeroDivisionError"),
    (lambda: None, "'pack' failed: TypeError"),
    (lambda: dict[str, float]()["volt"], "'pack' failed: KeyError"),
])
def test_a_function_that_fails(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(SensorError, match=message):
        CallableSensor(function, "charge", "pack").read()


def test_each_has_a_name_and_a_quantity() -> None:
    sensors: list[Sensor] = [BatterySensor(), ThermalSensor(), FileSensor("/a", "pressure"),
                             CallableSensor(lambda: 0.5, "charge", "pack")]
    assert [(sensor.name, sensor.quantity) for sensor in sensors] == [
        ("battery", "charge"), ("thermal", "temperature"), ("/a", "pressure"), ("pack", "charge")]
