"""Sensors of the device's battery and temperature."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, final

from edgewright.errors import SensorError

Quantity = Literal["charge", "temperature", "pressure"]

RANGES: Final[dict[Quantity, tuple[float, float]]] = {
    "charge": (0.0, 1.0), "temperature": (-60.0, 150.0), "pressure": (0.0, 1.0)}
# What reading a file, or a user's function, may raise if the sensor fails.
FAILURES: Final = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError,
                   SensorError)
_ON_MAINS: Final = ("Charging", "Full", "Not charging")


class Sensor(Protocol):
    """Interface of a sensor that a session can adapt to.

    Attributes:
        name: Used in messages.
        quantity: What `read` returns: ``charge``, the share of the battery left (0 to 1, 1 on
            mains); ``temperature`` in degrees Celsius; or ``pressure``, the resource pressure
            itself (0 none, 1 full).

    Example:
        >>> sensor: Sensor = CallableSensor(lambda: 0.4, "charge", "pack")
        >>> sensor.read()
        0.4
    """

    @property
    def name(self) -> str: ...

    @property
    def quantity(self) -> Quantity: ...

    def read(self) -> float:
        """The current reading; raises `SensorError`, OSError or ValueError if there is none."""
        ...


@final
@dataclass(frozen=True)
class BatterySensor:
    """Battery charge from Linux's sysfs: the mean over the device's batteries, 1 on mains.

    The device counts as on mains if a supply other than a battery is online, or if a battery is
    charging, full or not charging and none is discharging. Batteries of peripherals, such as a
    mouse, are ignored.

    Attributes:
        folder: The sysfs folder of power supplies.

    Example:
        >>> BatterySensor("/nowhere").read()
        Traceback (most recent call last):
        edgewright.errors.SensorError: no battery and no power supply found in /nowhere
    """

    folder: str | Path = "/sys/class/power_supply"

    @property
    def name(self) -> str:
        """``battery``."""
        return "battery"

    @property
    def quantity(self) -> Quantity:
        """``charge``."""
        return "charge"

    def read(self) -> float:
        """Charge left, 0 to 1.

        Raises:
            SensorError: There is neither a battery nor another supply, or no charge can be read.
        """
        supplies = [path for path in sorted(Path(self.folder).glob("*"))
                    if _read_text(path / "scope") != "Device" and _read_text(path / "type")]
        batteries = [path for path in supplies if _read_text(path / "type") == "Battery"]
        online = any(_read_text(path / "online") not in ("", "0")
                     for path in supplies if path not in batteries)
        states = {_read_text(path / "status") for path in batteries}
        if online or ("Discharging" not in states and states.intersection(_ON_MAINS)):
            return 1.0
        charges = [charge for charge in map(_read_charge, batteries) if charge is not None]
        if charges:
            return sum(charges) / len(charges)
        if not supplies:
            raise SensorError(f"no battery and no power supply found in {self.folder}")
        raise SensorError(f"cannot read the charge of {[path.name for path in supplies]} in "
                          f"{self.folder}; expected a file capacity, energy_now or charge_now")


@final
@dataclass(frozen=True)
class ThermalSensor:
    """Temperature of the hottest thermal zone, from Linux's sysfs.

    Zones that cannot be read, or whose reading is implausible, are ignored.

    Attributes:
        folder: The sysfs folder of thermal zones, each with a file ``temp`` in millidegrees.

    Example:
        >>> ThermalSensor("/nowhere").read()
        Traceback (most recent call last):
        edgewright.errors.SensorError: no thermal zone in /nowhere has a temperature
    """

    folder: str | Path = "/sys/class/thermal"

    @property
    def name(self) -> str:
        """``thermal``."""
        return "thermal"

    @property
    def quantity(self) -> Quantity:
        """``temperature``."""
        return "temperature"

    def read(self) -> float:
        """Degrees Celsius.

        Raises:
            SensorError: No zone can be read.
        """
        low, high = RANGES["temperature"]
        zones = (_read_number(path) for path in Path(self.folder).glob("thermal_zone*/temp"))
        degrees = [zone / 1000 for zone in zones if zone is not None and low <= zone / 1000 <= high]
        if not degrees:
            raise SensorError(f"no thermal zone in {self.folder} has a temperature")
        return max(degrees)


@final
@dataclass(frozen=True)
class FileSensor:
    """A number in a text file, times a scale.

    Attributes:
        path: The file; also the sensor's name.
        quantity: What the number is.
        scale: Converts the number to the quantity's unit: 0.01 for a charge in percent.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "gauge").write_text("37")
        ...     FileSensor(f"{folder}/gauge", "charge", scale=0.01).read()
        0.37
    """

    path: str | Path
    quantity: Quantity
    scale: float = 1.0

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def read(self) -> float:
        """The number times the scale.

        Raises:
            SensorError: The file cannot be read, or does not contain a number.
        """
        try:
            return float(Path(self.path).read_text().strip()) * self.scale
        except (OSError, ValueError) as error:
            raise SensorError(f"cannot read a number from {self.path}: {error}") from error


@final
@dataclass(frozen=True)
class CallableSensor:
    """A sensor that calls a function.

    Attributes:
        function: Takes no arguments; it should be fast, since it is called often.
        quantity: What the returned number is.
        name: Used in messages.

    Example:
        >>> CallableSensor(lambda: 71.5, "temperature", "board").read()
        71.5
    """

    function: Callable[[], float]
    quantity: Quantity
    name: str

    def read(self) -> float:
        """The function's current value.

        Raises:
            SensorError: It raises an error, or does not return a number.
        """
        try:
            return float(self.function())
        except FAILURES as error:
            raise SensorError(f"the function of the sensor {self.name!r} failed: "
                              f"{type(error).__name__}: {error}") from error


def _read_text(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text().strip()
    return ""


def _read_number(path: Path) -> float | None:
    with suppress(ValueError):
        found = float(_read_text(path))
        return found if math.isfinite(found) else None
    return None


def _read_charge(battery: Path) -> float | None:
    percent = _read_number(battery / "capacity")
    if percent is not None:
        return percent / 100
    for kind in ("energy", "charge"):
        now = _read_number(battery / f"{kind}_now")
        full = _read_number(battery / f"{kind}_full")
        if now is not None and full:
            return min(now / full, 1.0)   # an uncalibrated gauge may exceed full
    return None
