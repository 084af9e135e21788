"""MSE calibration: the range with the smallest sum of squared quantization errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

from edgewright.quantization.calibration._histogram import Histogram
from edgewright.quantization.scheme import Grid
from edgewright.quantization.simulation import FakeQuantizer

_RATIO: Final = 0.9
_COARSE: Final = 80  # fractions of the extremes, down to 0.9^79 = 0.02 %
_FINE: Final = (-0.5, 0.5, -0.25, 0.25, -0.125, 0.125, -0.0625, 0.0625)
_STOP_RATIO: Final = 4.0  # stop when all errors exceed this multiple of the smallest so far
_RATIOS: Final = ((1.0, 0.5), (0.5, 1.0), (1.0, 0.25), (0.25, 1.0))  # fractions of (low, high)

_Range: TypeAlias = tuple[Tensor, Tensor]
_Candidate: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]  # low, high, error, fraction


def mse_range_of_histogram(histogram: Histogram, grid: Grid) -> _Range:
    """The range with the smallest squared error for the values of a histogram.

    Args:
        histogram: A histogram of at least one value; values count as the center of their bin.
        grid: A grid with one scale.

    Example:
        >>> histogram = Histogram()
        >>> histogram.update(torch.tensor([0.] * 99 + [1.] * 99 + [3.]))
        >>> grid = Grid(2, signed=True, symmetric=True, narrow=True, role="activation")
        >>> low, high = mse_range_of_histogram(histogram, grid)
        >>> bool(abs(high - 1.02) < 0.02)
        True
    """
    centers, counts = histogram.points()
    low, high = histogram.extremes()
    found = find_mse_range_of_rows(centers[None], low[None], high[None], grid, counts.double())
    return found[0][0], found[1][0]


def find_mse_range_of_rows(rows: Tensor, low: Tensor, high: Tensor, grid: Grid,
                             counts: Tensor | None = None) -> _Range:
    """The range with the smallest squared error of each row, found by shrinking the extremes.

    Both limits are shrunk together; for asymmetric grids at several ratios, followed by each limit
    alone, starting from the best ratio. The error is measured with the final grid, including the
    rounded zero point and a power-of-two scale if required. Along each path the error first falls
    (rounding dominates) and then rises (clipping dominates), so the search stops once clipping
    clearly dominates.

    Args:
        rows: (R, N).
        low: The minimum of each row, (R,).
        high: The maximum of each row, (R,).
        grid: The grid whose range is needed.
        counts: How many values each column stands for, (N,); 1 by default.

    Returns:
        The lower and the upper limits, (R,) each.
    """
    error = _error(rows, torch.maximum(low.abs(), high.abs()), grid, counts)
    low, high = low.clamp(max=0), high.clamp(min=0)
    best = _shrink(error, low, high)
    if grid.symmetric or not bool(((low < 0) & (high > 0)).any()):
        return best[:2]
    for below, above in _RATIOS:
        best = _select_smaller_error(best, _shrink(error, low * below, high * above))
    best = _select_smaller_error(best, _shrink(error, best[0], high, sides=(False, True)))
    best = _select_smaller_error(best, _shrink(error, low, best[1], sides=(True, False)))
    return best[:2]


def _error(rows: Tensor, size: Tensor, grid: Grid,
           counts: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that computes each row's squared error relative to its largest square."""
    quantizer = FakeQuantizer(dataclasses.replace(grid, axis=0, group=None), (len(rows),))
    quantizer = quantizer.to(rows.device)
    quantizer.mode = "quantize"
    size = torch.where(size > 0, size, 1.0).unsqueeze(-1)

    @torch.no_grad()
    def error(low: Tensor, high: Tensor) -> Tensor:
        quantizer.set_range(low, high)
        squares = ((quantizer(rows) - rows) / size).square()
        total: Tensor = (squares if counts is None else squares * counts).sum(-1)
        return total

    return error


def _shrink(error: Callable[[Tensor, Tensor], Tensor], low: Tensor, high: Tensor,
            sides: tuple[bool, bool] = (True, True)) -> _Candidate:
    """Shrink one or both limits; return the candidate with the smallest error of each row."""
    def at(share: Tensor) -> _Candidate:
        ends = low * share if sides[0] else low, high * share if sides[1] else high
        return *ends, error(*ends), share

    best = at(torch.ones_like(low))
    for step in range(1, _COARSE):
        tried = at(torch.full_like(low, _RATIO**step))
        best = _select_smaller_error(best, tried)
        if bool((tried[2] >= _STOP_RATIO * best[2]).all()) and bool((tried[3] < best[3]).all()):
            break
    for fraction in _FINE:
        best = _select_smaller_error(best, at((best[3] * _RATIO**fraction).clamp(max=1)))
    return best


def _select_smaller_error(one: _Candidate, other: _Candidate) -> _Candidate:
    """Select the candidate with the smaller error, row by row."""
    wins = other[2] < one[2]
    low, high, error, share = (torch.where(wins, b, a) for a, b in zip(one, other, strict=True))
    return low, high, error, share
