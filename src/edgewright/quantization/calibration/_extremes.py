"""The range from the least to the greatest number."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from edgewright.quantization.calibration._values import extremes_of, rows_of, settled, unseen
from edgewright.quantization.scheme import Grid


@final
class Extremes:
    """Observes the least and the greatest number of everything that was shown.

    Example:
        >>> observer = Extremes(Grid(8, signed=False, symmetric=False, role="activation"))
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
        low, high = extremes_of(rows_of(x, self._grid))
        if self._found is not None:
            low, high = torch.minimum(low, self._found[0]), torch.maximum(high, self._found[1])
        self._found = low, high

    def range(self) -> tuple[Tensor, Tensor]:
        """See `Observer.range`."""
        if self._found is None:
            raise unseen()
        return settled(*self._found, self._found)
