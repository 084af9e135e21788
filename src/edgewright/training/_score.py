"""A named score and its direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, final

from edgewright.core import MetricSpec


@final
@dataclass(frozen=True)
class Score:
    """One measurement on a split.

    Attributes:
        name: Name of the metric: ``accuracy``, ``miou``, ``loss``.
        value: The value; NaN is worse than any number.
        higher_is_better: Whether a higher value is better.
        unit: ``fraction`` is shown as a percentage; empty for a number without a unit.

    Example:
        >>> str(Score("accuracy", 0.925, unit="fraction"))
        'accuracy 92.50 %'
        >>> Score("loss", 0.2, higher_is_better=False).merit > Score("loss", 0.3, False).merit
        True
    """

    name: str
    value: float
    higher_is_better: bool = True
    unit: str = ""

    @classmethod
    def of(cls, spec: MetricSpec, value: float) -> Self:
        """A metric's value."""
        return cls(spec.name, value, spec.higher_is_better, spec.unit)

    @property
    def merit(self) -> float:
        """The value if higher is better, else its negative; minus infinity for NaN."""
        if math.isnan(self.value):
            return -math.inf
        return self.value if self.higher_is_better else -self.value

    def __str__(self) -> str:
        if self.unit == "fraction":
            return f"{self.name} {100 * self.value:.2f} %"
        return f"{self.name} {self.value:.4g} {self.unit}".rstrip()
