"""A chart's axis: maps values to pixels, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LOG_FROM: Final = 12.0
_MANTISSAS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """Maps ``low``..``high`` to pixels ``start``..``end``, on a linear or logarithmic scale.

    Example:
        >>> Axis(0.0, 10.0, 100.0, 200.0).place(5.0)
        150.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """About ``count`` round values inside the axis.

        Example:
            >>> Axis(0.0, 420.0, 0.0, 1.0).ticks(5)
            (0.0, 100.0, 200.0, 300.0, 400.0)
        """
        if self.log:
            return _decade_ticks(self.low, self.high, count)
        step = _round_step((self.high - self.low) / count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(float(f"{index * step:.9g}") for index in range(first, last + 1))


def cost_axis(costs: Sequence[float], start: float, end: float) -> Axis:
    """An axis from zero, or a logarithmic one if the costs span more than a factor of 12."""
    low, high = min(costs), max(costs)
    if low > 0 and high / low > _LOG_FROM:
        return Axis(low / 1.4, high * 1.4, start, end, log=True)
    return Axis(0.0, 1.08 * high if high > 0 else 1.0, start, end)


def quality_axis(values: Sequence[float], start: float, end: float, *, is_percent: bool) -> Axis:
    """An axis around a metric's values with a margin on both sides.

    Percentages stay inside 0..100, with a margin of at least half a point.
    """
    low, high = min(values), max(values)
    if is_percent:
        margin = max(0.14 * (high - low), 0.5)
        return Axis(max(min(0.0, low), low - margin), min(max(100.0, high), high + margin), start,
                    end)
    margin = 0.14 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(low - margin, high + margin, start, end)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * m for m in _MANTISSAS if power * m >= rough * (1 - 1e-9))


def _decade_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        found = tuple(m * 10.0**d for d in decades for m in mantissas if low <= m * 10.0**d <= high)
        if len(found) <= 1.5 * count:
            return found
    return found[::math.ceil(len(found) / count)]
