"""How good a module is, in one number that knows what it counts and which way is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Score:
    """One measurement on a split.

    Attributes:
        name: Of what is measured: ``accuracy``, ``loss``.
        value: The measurement; NaN is worse than anything.
        higher_is_better: Which of two values is preferred.
        unit: ``fraction`` of 1, shown as a percentage; empty for a number without a unit.

    Example:
        >>> str(Score("accuracy", 0.925, unit="fraction"))
        'accuracy 92.50%'
        >>> Score("loss", 0.2, higher_is_better=False).merit > Score("loss", 0.3, False).merit
        True
    """

    name: str
    value: float
    higher_is_better: bool = True
    unit: str = ""

    @property
    def merit(self) -> float:
        """The value where higher is better, else its negative; NaN counts as minus infinity."""
        if math.isnan(self.value):
            return -math.inf
        return self.value if self.higher_is_better else -self.value

    def __str__(self) -> str:
        if self.unit == "fraction":
            return f"{self.name} {self.value:.2%}"
        return f"{self.name} {self.value:.4g} {self.unit}".rstrip()
