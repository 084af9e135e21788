"""Observers that find a range with a rule, from a stream of values or a weight as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

from torch import Tensor

from edgewright.quantization.calibration._histogram import Histogram
from edgewright.quantization.calibration._values import extremes_of, rows_of, settled, unseen
from edgewright.quantization.scheme import Grid, Observer, RangeEstimator
from edgewright.quantization.simulation import BinaryLevels

_Range: TypeAlias = tuple[Tensor, Tensor]


def make_observer(estimator: RangeEstimator, grid: Grid) -> Observer:
    """The observer that finds a range as ``estimator`` does.

    The two levels of a binary activation are found in one way only, `BinaryLevels`.

    Args:
        estimator: How ranges are found.
        grid: What the range is for.

    Example:
        >>> import torch
        >>> from edgewright.quantization import MinMax
        >>> grid = Grid(8, signed=False, symmetric=False, role="activation")
        >>> observer = make_observer(MinMax(), grid)
        >>> observer.update(torch.tensor([1., 3.]))
        >>> observer.range()
        (tensor(0.), tensor(3.))
    """
    if grid.bits == 1 and grid.role == "activation":
        return BinaryLevels()
    return estimator.observer(grid)


@final
class StreamObserver:
    """Finds one range in the histogram of everything that was shown.

    Args:
        rule: From the histogram to a range.
    """

    def __init__(self, rule: Callable[[Histogram], _Range]) -> None:
        self._rule = rule
        self._histogram = Histogram()

    def update(self, x: Tensor) -> None:
        """See `Observer.update`."""
        self._histogram.update(x)

    def range(self) -> _Range:
        """See `Observer.range`."""
        return settled(*self._rule(self._histogram), self._histogram.extremes())


@final
class WeightObserver:
    """Finds a range for each row of the last tensor shown; holds it, and no copy.

    Args:
        grid: Says what a row is.
        rule: From rows and the least and the greatest number of each to a range of each.
    """

    def __init__(self, grid: Grid, rule: Callable[[Tensor, Tensor, Tensor], _Range]) -> None:
        self._grid = grid
        self._rule = rule
        self._weight: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """See `Observer.update`."""
        if x.numel() == 0:
            return
        extremes_of(rows_of(x, self._grid))
        self._weight = x.detach()

    def range(self) -> _Range:
        """See `Observer.range`."""
        if self._weight is None:
            raise unseen()
        rows = rows_of(self._weight, self._grid)
        low, high = extremes_of(rows)
        found = self._rule(rows.reshape(-1, rows.shape[-1]), low.flatten(), high.flatten())
        return settled(found[0].view_as(low), found[1].view_as(low), (low, high))
