"""Quantities in the user's units: "100 kB", "96 KiB", "2 ms", "0.5 %"."""

from __future__ import annotations

import math
import re
from typing import Final, Literal

from edgewright.errors import UsageError

Dimension = Literal["size", "time", "duration", "energy", "count", "fraction", "number"]

_UNITS: Final[dict[Dimension, dict[str, float]]] = {
    "size": {"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9,
             "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    "time": {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3},
    "duration": {"ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600},
    "energy": {"nJ": 1e-6, "uJ": 1e-3, "mJ": 1.0, "J": 1e3},
    "count": {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    "fraction": {"": 1.0, "%": 0.01},
    "number": {"": 1.0},
}
_QUANTITY: Final = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z%]*)\s*")


def parse_quantity(text: str | float, dimension: Dimension) -> float:
    """Read a quantity into the dimension's base unit.

    Base units: bytes, milliseconds (``time``, of one inference), seconds (``duration``, of a run),
    millijoules, a plain count, a fraction of one.

    Args:
        text: A number with a unit, or a number alone in the base unit.
        dimension: The kind of quantity.

    Raises:
        UsageError: The text is not a number, not finite, negative, or has an unknown unit.

    Example:
        >>> parse_quantity("96 KiB", "size")
        98304.0
        >>> parse_quantity("0.5 %", "fraction")
        0.005
    """
    match = _QUANTITY.fullmatch(str(text).replace("µ", "u").replace("μ", "u"))
    if match is None:
        raise UsageError(f"{text!r} is not a quantity; write a number and a unit, "
                         f"as in {_example(dimension)!r}")
    units = {"": 1.0, **_UNITS[dimension]}
    if match[2] not in units:
        known = ", ".join(name or "(none)" for name in _UNITS[dimension])
        raise UsageError(f"unknown unit {match[2]!r} in {text!r} for a {dimension}; "
                         f"known: {known}")
    value = float(match[1]) * units[match[2]]
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is too large; expected a finite quantity, "
                         f"as in {_example(dimension)!r}")
    return value


def format_size(size_bytes: float) -> str:
    """Format bytes with a decimal unit and three significant digits.

    Example:
        >>> format_size(98496)
        '98.5 kB'
    """
    return _scaled(size_bytes, ("B", "kB", "MB", "GB"))


def format_count(count: float) -> str:
    """Format a count with a metric prefix and three significant digits.

    Example:
        >>> format_count(40_800_000)
        '40.8 M'
    """
    return _scaled(count, ("", "k", "M", "G", "T"))


def format_percent(fraction: float, digits: int = 1) -> str:
    """Format a fraction as a percentage.

    Args:
        fraction: 0.5 for 50 %.
        digits: After the decimal point.

    Example:
        >>> format_percent(0.1234), format_percent(0.9173, 2)
        ('12.3 %', '91.73 %')
    """
    return f"{100 * fraction:.{digits}f} %"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    index = 0
    while abs(value) >= 999.5 and index < len(units) - 1:
        value, index = value / 1000, index + 1
    digits = f"{value:.0f}" if index == 0 and value == int(value) else f"{value:.3g}"
    return f"{digits} {units[index]}".rstrip()


def format_significant(value: float) -> str:
    """Format a number with three significant digits, or all digits before the point.

    Example:
        >>> format_significant(0.01234), format_significant(12.0), format_significant(45678.9)
        ('0.0123', '12', '45,679')
    """
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _example(dimension: Dimension) -> str:
    return {"size": "100 kB", "time": "2 ms", "duration": "20 min", "energy": "3 mJ",
            "count": "40 M", "fraction": "0.5 %", "number": "0.5"}[dimension]


def format_cost(name: str, value: float) -> str:
    """Format a cost that a budget limits, by the name of the limit.

    Example:
        >>> format_cost("size", 98496), format_cost("latency", 1.25), format_cost("macs", 4e6)
        ('98.5 kB', '1.25 ms', '4 M')
    """
    if name in ("size", "ram"):
        return format_size(value)
    return f"{value:.3g} ms" if name == "latency" else format_count(value)
