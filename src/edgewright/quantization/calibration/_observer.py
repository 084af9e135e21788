"""`Observer`: sees a value's numbers go by and says which range is worth their integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias, final

from torch import Tensor

from edgewright.quantization.calibration._entropy import least_divergence
from edgewright.quantization.calibration._extremes import Extremes
from edgewright.quantization.calibration._histogram import Histogram
from edgewright.quantization.calibration._percentile import (
    percentile_of_histogram,
    percentile_of_rows,
)
from edgewright.quantization.calibration._squared_error import (
    least_error_of_histogram,
    least_error_of_rows,
)
from edgewright.quantization.calibration._values import extremes_of, rows_of, settled, unseen
from edgewright.quantization.scheme import Grid, Quantization
from edgewright.quantization.simulation import BinaryLevels, Observer

_Range: TypeAlias = tuple[Tensor, Tensor]




def make_observer(config: Quantization, grid: Grid) -> Observer:
    """The observer that ``config.ranges`` asks for.

    An activation's numbers stream into a histogram. A weight is the same each time: the last one
    shown is looked at as it is. For weights, ``entropy`` is ``minmax``, as in its source: they
    have no outliers to clip. The two levels of a binary activation are found in one way only,
    `BinaryLevels`.

    Args:
        config: How ranges are found.
        grid: What the range is for.

    Example:
        >>> import torch
        >>> grid = Grid(8, signed=False, symmetric=False, role="activation")
        >>> observer = make_observer(Quantization(ranges="minmax"), grid)
        >>> observer.update(torch.tensor([1., 3.]))
        >>> observer.range()
        (tensor(0.), tensor(3.))
    """
    is_weight = grid.role == "weight"
    if grid.bits == 1 and not is_weight:
        return BinaryLevels()
    if config.ranges == "minmax" or (is_weight and config.ranges == "entropy"):
        return Extremes(grid)
    if is_weight:
        return _WeightObserver(grid, partial(percentile_of_rows, percentile=config.percentile)
                               if config.ranges == "percentile"
                               else partial(least_error_of_rows, grid=grid))
    if config.ranges == "percentile":
        return _StreamObserver(partial(percentile_of_histogram, percentile=config.percentile))
    return _StreamObserver(partial(least_divergence if config.ranges == "entropy"
                                   else least_error_of_histogram, grid=grid))


@final
class _StreamObserver:
    """Finds one range in the histogram of everything that was shown."""

    def __init__(self, rule: Callable[[Histogram], _Range]) -> None:
        self._rule = rule
        self._histogram = Histogram()

    def update(self, x: Tensor) -> None:
        self._histogram.update(x)

    def range(self) -> _Range:
        return settled(*self._rule(self._histogram), self._histogram.extremes())


@final
class _WeightObserver:
    """Finds a range for each row of the last tensor shown; holds it, and no copy."""

    def __init__(self, grid: Grid, rule: Callable[[Tensor, Tensor, Tensor], _Range]) -> None:
        self._grid = grid
        self._rule = rule
        self._weight: Tensor | None = None

    def update(self, x: Tensor) -> None:
        if x.numel() == 0:
            return
        extremes_of(rows_of(x, self._grid))
        self._weight = x.detach()

    def range(self) -> _Range:
        if self._weight is None:
            raise unseen()
        rows = rows_of(self._weight, self._grid)
        low, high = extremes_of(rows)
        found = self._rule(rows.reshape(-1, rows.shape[-1]), low.flatten(), high.flatten())
        return settled(found[0].view_as(low), found[1].view_as(low), (low, high))
