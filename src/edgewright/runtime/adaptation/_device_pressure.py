"""Resource pressure on the device, from its sensors."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from edgewright.errors import SensorError, UsageError
from edgewright.runtime.adaptation._sensors import FAILURES, RANGES, Quantity, Sensor

# Readings at which the pressure is 0, and at which it is 1.
_NO_AND_FULL_PRESSURE: Final[dict[Quantity, tuple[float, float]]] = {
    "charge": (0.5, 0.1), "temperature": (60.0, 80.0), "pressure": (0.0, 1.0)}


class SensorWarning(UserWarning):
    """A sensor is missing or fails; adaptation continues without it."""


@final
class DevicePressure:
    """Resource pressure on the device, from 0 (none) to 1 (full); safe to use from any thread.

    A battery charge of 0.5 or more gives pressure 0, one of 0.1 or less gives 1; a temperature up
    to 60 °C gives 0, one from 80 °C gives 1; both are linear in between. A ``pressure`` sensor
    gives it directly. The device's pressure is the largest of all sensors. The sensors are read on
    demand, at most once per period.

    A sensor that raises an error, or whose reading is NaN or out of range, is ignored until it
    works again, and reported once by a `SensorWarning`.

    Args:
        sensors: The sensors; their names must differ.
        period_s: Minimum time between two readings, in seconds.
        clock: Returns seconds.

    Raises:
        UsageError: An object is not a sensor, two sensors have the same name, a quantity is
            unknown, or the period is negative.

    Example:
        >>> from edgewright.runtime.adaptation._sensors import CallableSensor
        >>> pressure = DevicePressure([CallableSensor(lambda: 0.3, "charge", "pack")])
        >>> pressure.level, pressure.cause, pressure.faults
        (0.5, 'charge of pack 0.3', {})
    """

    def __init__(self, sensors: Sequence[Sensor], *, period_s: float = 1.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        for sensor in sensors:
            if not all(hasattr(sensor, part) for part in ("name", "quantity", "read")):
                raise UsageError(f"{sensor!r} is not a sensor; expected an object with name, "
                                 "quantity and read(), such as BatterySensor() or "
                                 "CallableSensor(function, quantity, name)")
        names = [sensor.name for sensor in sensors]
        if len(set(names)) < len(names):
            raise UsageError(f"the sensors need different names, got {names}")
        unknown = {sensor.quantity for sensor in sensors}.difference(RANGES)
        if unknown:
            raise UsageError(f"unknown quantities {sorted(unknown)}; a sensor's quantity is one "
                             f"of {sorted(RANGES)}")
        if not period_s >= 0:
            raise UsageError(f"period_s must be at least 0 seconds, got {period_s}")
        self._sensors = tuple(sensors)
        self._period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._next_s = -math.inf
        self._level = 0.0
        self._cause = ""
        self._faults: dict[str, str] = {}
        self._reported: set[str] = set()

    @property
    def level(self) -> float:
        """The pressure, 0 (none, or no sensor works) to 1."""
        self._update()
        return self._level

    @property
    def cause(self) -> str:
        """The reading with the highest pressure, as text; empty if the pressure is 0."""
        self._update()
        return self._cause

    @property
    def faults(self) -> Mapping[str, str]:
        """Why sensors are being ignored right now, by sensor name."""
        self._update()
        return dict(self._faults)

    def _update(self) -> None:
        with self._lock:
            now = self._clock()
            if now < self._next_s:
                return
            self._next_s = now + self._period_s
            self._read_all()
            fresh = {name: text for name, text in self._faults.items()
                     if name not in self._reported}
            self._reported.update(fresh)
        for name, text in fresh.items():
            warnings.warn(f"sensor {name!r} is ignored until it works again: {text}",
                          SensorWarning, stacklevel=3)

    def _read_all(self) -> None:
        level, cause, faults = 0.0, "", {}
        for sensor in self._sensors:
            try:
                reading = _read(sensor)
            except FAILURES as error:
                faults[sensor.name] = str(error) or type(error).__name__
                continue
            none, full = _NO_AND_FULL_PRESSURE[sensor.quantity]
            pressure = min(max((reading - none) / (full - none), 0.0), 1.0)
            if pressure > level:
                level = pressure
                cause = f"{sensor.quantity} of {sensor.name} {reading:.3g}"
        self._level, self._cause, self._faults = level, cause, faults


def _read(sensor: Sensor) -> float:
    reading = sensor.read()
    low, high = RANGES[sensor.quantity]
    if not low <= reading <= high:   # also true for NaN
        raise SensorError(f"a {sensor.quantity} of {reading}; expected {low:g} to {high:g}")
    return reading
