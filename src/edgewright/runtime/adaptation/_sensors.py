"""What the device says of its battery and its heat."""

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
# What reading a file, or somebody's function, raises when the sensor behind it is at fault.
FAILURES: Final = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError,
                   SensorError)
_FED: Final = ("Charging", "Full", "Not charging")


class Sensor(Protocol):
    """Something that can be read: what is needed to adapt to a battery, to heat, to anything.

    Attributes:
        name: To report it by.
        quantity: What `read` gives: ``charge``, the share of the battery left (0 to 1, 1 on mains);
            ``temperature`` in degrees Celsius; or outright how hard pressed the device is,
            ``pressure`` (0 not at all, 1 as hard as can be).

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
        """The reading at this moment; raises `SensorError`, OSError or ValueError for none."""
        ...


@final
@dataclass(frozen=True)
class BatterySensor:
    """Charge left, as Linux tells it: the mean over the device's batteries, 1 on mains.

    The device is on mains where a supply that is no battery is online, or where a battery is
    charging, full or not charging and none is being discharged. Batteries of peripherals (a mouse)
    do not count.

    Attributes:
        folder: Of the power supplies.

    Example:
        >>> BatterySensor("/nowhere").read()
        Traceback (most recent call last):
        edgewright.errors.SensorError: no battery and no supply is told of under /nowhere
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
                    if _word(path / "scope") != "Device" and _word(path / "type")]
        batteries = [path for path in supplies if _word(path / "type") == "Battery"]
        online = any(_word(path / "online") not in ("", "0")
                     for path in supplies if path not in batteries)
        states = {_word(path / "status") for path in batteries}
        if online or ("Discharging" not in states and states.intersection(_FED)):
            return 1.0
        charges = [charge for charge in map(_charge, batteries) if charge is not None]
        if charges:
            return sum(charges) / len(charges)
        if not supplies:
            raise SensorError(f"no battery and no supply is told of under {self.folder}")
        raise SensorError(f"no charge can be read of {[path.name for path in supplies]} under "
                          f"{self.folder}; expected a file capacity, energy_now or charge_now")


@final
@dataclass(frozen=True)
class ThermalSensor:
    """Temperature of the hottest thermal zone, as Linux tells it.

    Zones that cannot be read, or whose reading is no temperature of a working device, do not count.

    Attributes:
        folder: Of the thermal zones; each has a file ``temp``, in thousandths of a degree.

    Example:
        >>> ThermalSensor("/nowhere").read()
        Traceback (most recent call last):
        edgewright.errors.SensorError: no thermal zone under /nowhere gives a temperature
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
        zones = (_number(path) for path in Path(self.folder).glob("thermal_zone*/temp"))
        degrees = [zone / 1000 for zone in zones if zone is not None and low <= zone / 1000 <= high]
        if not degrees:
            raise SensorError(f"no thermal zone under {self.folder} gives a temperature")
        return max(degrees)


@final
@dataclass(frozen=True)
class FileSensor:
    """A number in a text file, times a scale.

    Attributes:
        path: The file; also the sensor's name.
        quantity: What it holds.
        scale: Turns the number into the quantity's unit: 0.01 for a charge in percent.

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
            SensorError: The file cannot be read, or holds no number.
        """
        try:
            return float(Path(self.path).read_text().strip()) * self.scale
        except (OSError, ValueError) as error:
            raise SensorError(f"{self.path} gives no number: {error}") from error


@final
@dataclass(frozen=True)
class CallableSensor:
    """What a function returns.

    Attributes:
        function: Called without arguments, often: it should be quick.
        quantity: What it returns.
        name: To report it by.

    Example:
        >>> CallableSensor(lambda: 71.5, "temperature", "board").read()
        71.5
    """

    function: Callable[[], float]
    quantity: Quantity
    name: str

    def read(self) -> float:
        """What the function returns now.

        Raises:
            SensorError: It raises an error, or returns what is no number.
        """
        try:
            return float(self.function())
        except FAILURES as error:
            raise SensorError(f"the function of the sensor {self.name!r} failed: "
                              f"{type(error).__name__}: {error}") from error


def _word(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text().strip()
    return ""


def _number(path: Path) -> float | None:
    with suppress(ValueError):
        found = float(_word(path))
        return found if math.isfinite(found) else None
    return None


def _charge(battery: Path) -> float | None:
    percent = _number(battery / "capacity")
    if percent is not None:
        return percent / 100
    for kind in ("energy", "charge"):
        now, full = _number(battery / f"{kind}_now"), _number(battery / f"{kind}_full")
        if now is not None and full:
            return min(now / full, 1.0)   # a gauge that was not calibrated goes beyond full
    return None
