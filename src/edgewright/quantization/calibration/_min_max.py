"""The range from the minimum to the maximum."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from edgewright.quantization.calibration._values import (
    arrange_rows_by_scale,
    clip_to_extremes,
    min_max_of_rows,
    no_values_error,
)
from edgewright.quantization.scheme import Grid


@final
class MinMaxObserver:
    """Tracks the minimum and the maximum of all observed values.

    Example:
        >>> observer = MinMaxObserver(Grid(8, signed=False, symmetric=False, role="activation"))
        >>> observer.update(torch.tensor([1., 2.]))
        >>> observer.update(torch.tensor([-3.]))
        >>> observer.range()
        (tensor(-3.), tensor(2.))
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._found: tuple[Tensor, Tensor] | None = None

    def update(self, x: Tensor) -> None:
        """See `Observer.update`."""
        if x.numel() == 0:
            return
        low, high = min_max_of_rows(arrange_rows_by_scale(x, self._grid))
        if self._found is not None:
            low, high = torch.minimum(low, self._found[0]), torch.maximum(high, self._found[1])
        self._found = low, high

    def range(self) -> tuple[Tensor, Tensor]:
        """See `Observer.range`."""
        if self._found is None:
            raise no_values_error()
        return clip_to_extremes(*self._found, self._found)
