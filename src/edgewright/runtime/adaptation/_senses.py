"""How hard pressed the device is, of everything its sensors say."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from edgewright.errors import SensorError, UsageError
from edgewright.runtime.adaptation._sensors import FAILURES, RANGES, Quantity, Sensor

# Readings at which a device is not pressed at all, and as hard as can be.
_EASY_HARD: Final[dict[Quantity, tuple[float, float]]] = {
    "charge": (0.5, 0.1), "temperature": (60.0, 80.0), "pressure": (0.0, 1.0)}


class SensorWarning(UserWarning):
    """A sensor is missing or fails; what adapts to it goes on without it."""


@final
class Senses:
    """How hard pressed the device is, of everything its sensors say; safe to use from any thread.

    A charge of 0.5 presses it not at all and one of 0.1 with 1; a temperature of 60 °C not at all
    and one of 80 °C with 1; in between linearly, and a pressure says so itself. The device's is the
    greatest of them. The sensors are read when somebody asks, at most once a period.

    A sensor that raises an error, or whose reading is no number or out of range, is left out until
    it answers again, and reported once, by a `SensorWarning`.

    Args:
        sensors: To read; their names must differ.
        period_s: Between two readings.
        clock: In seconds.

    Raises:
        UsageError: What is no sensor, two sensors of one name, an unknown quantity, or a negative
            period.

    Example:
        >>> from edgewright.runtime.adaptation._sensors import CallableSensor
        >>> senses = Senses([CallableSensor(lambda: 0.3, "charge", "pack")])
        >>> senses.pressure, senses.cause, senses.faults
        (0.5, 'charge of pack 0.3', {})
    """

    def __init__(self, sensors: Sequence[Sensor], *, period_s: float = 1.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        for sensor in sensors:
            if not all(hasattr(sensor, part) for part in ("name", "quantity", "read")):
                raise UsageError(f"{sensor!r} is no sensor: one has a name, a quantity and read(), "
                                 "such as BatterySensor() or CallableSensor(read, quantity, name)")
        names = [sensor.name for sensor in sensors]
        if len(set(names)) < len(names):
            raise UsageError(f"the sensors need different names, got {names}")
        unknown = {sensor.quantity for sensor in sensors}.difference(RANGES)
        if unknown:
            raise UsageError(f"no sensor's quantity is {sorted(unknown)}; expected one of "
                             f"{sorted(RANGES)}")
        if not period_s >= 0:
            raise UsageError(f"period_s must be at least 0 seconds, got {period_s}")
        self._sensors = tuple(sensors)
        self._period_s = period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._next_s = -math.inf
        self._pressure = 0.0
        self._cause = ""
        self._faults: dict[str, str] = {}
        self._reported: set[str] = set()

    @property
    def pressure(self) -> float:
        """0 (not pressed, or nothing is known) to 1."""
        self._renew()
        return self._pressure

    @property
    def cause(self) -> str:
        """The reading that presses hardest, in words; empty where nothing presses."""
        self._renew()
        return self._cause

    @property
    def faults(self) -> Mapping[str, str]:
        """Why a sensor is left out at this moment, by the sensor's name."""
        self._renew()
        return dict(self._faults)

    def _renew(self) -> None:
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
            warnings.warn(f"sensor {name!r} is left out until it answers again: {text}",
                          SensorWarning, stacklevel=3)

    def _read_all(self) -> None:
        pressure, cause, faults = 0.0, "", {}
        for sensor in self._sensors:
            try:
                reading = _checked(sensor)
            except FAILURES as error:
                faults[sensor.name] = str(error) or type(error).__name__
                continue
            easy, hard = _EASY_HARD[sensor.quantity]
            pressing = min(max((reading - easy) / (hard - easy), 0.0), 1.0)
            if pressing > pressure:
                pressure = pressing
                cause = f"{sensor.quantity} of {sensor.name} {reading:.3g}"
        self._pressure, self._cause, self._faults = pressure, cause, faults


def _checked(sensor: Sensor) -> float:
    reading = sensor.read()
    low, high = RANGES[sensor.quantity]
    if not low <= reading <= high:   # also where it is not a number
        raise SensorError(f"a {sensor.quantity} of {reading}; expected {low:g} to {high:g}")
    return reading
