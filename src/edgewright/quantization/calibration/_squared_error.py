"""The range whose grid is nearest to the numbers: the least sum of squared errors."""

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
_COARSE: Final = 80  # shares of the extremes, down to 0.9^79 = 0.02 %
_FINE: Final = (-0.5, 0.5, -0.25, 0.25, -0.125, 0.125, -0.0625, 0.0625)
_HOPELESS: Final = 4.0  # times the least error so far
_RATIOS: Final = ((1.0, 0.5), (0.5, 1.0), (1.0, 0.25), (0.25, 1.0))  # of the sides

_Range: TypeAlias = tuple[Tensor, Tensor]
_Found: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]  # low, high, error, share of the start


def least_error_of_histogram(histogram: Histogram, grid: Grid) -> _Range:
    """The range of least squared error for numbers of which only a histogram is kept.

    Args:
        histogram: Of at least one number; each counts as its bin's centre.
        grid: With one scale for all.

    Example:
        >>> histogram = Histogram()
        >>> histogram.update(torch.tensor([0.] * 99 + [1.] * 99 + [3.]))
        >>> grid = Grid(2, signed=True, symmetric=True, narrow=True, role="activation")
        >>> low, high = least_error_of_histogram(histogram, grid)
        >>> bool(abs(high - 1.02) < 0.02)
        True
    """
    centres, counts = histogram.points()
    low, high = histogram.extremes()
    found = least_error_of_rows(centres[None], low[None], high[None], grid, counts.double())
    return found[0][0], found[1][0]


def least_error_of_rows(rows: Tensor, low: Tensor, high: Tensor, grid: Grid,
                        counts: Tensor | None = None) -> _Range:
    """The range of least squared error of each row: extremes shrunk step by step.

    Both sides shrink together; where the grid is not symmetric, at several ratios, and from the
    best of these each side alone. The error is that of the grid as it will be used: its zero point
    rounded, its scale a power of two where it has to be. Along each path it falls while rounding
    costs most and rises while clipping does, so a path ends where clipping has clearly won.

    Args:
        rows: (R, N).
        low: The least number of each row, (R,).
        high: The greatest.
        grid: What the range is for.
        counts: How many numbers each column stands for, (N,); one if left out.

    Returns:
        Low and high, (R,) each.
    """
    error = _error(rows, torch.maximum(low.abs(), high.abs()), grid, counts)
    low, high = low.clamp(max=0), high.clamp(min=0)
    best = _shrink(error, low, high)
    if grid.symmetric or not bool(((low < 0) & (high > 0)).any()):
        return best[:2]
    for below, above in _RATIOS:
        best = _better(best, _shrink(error, low * below, high * above))
    best = _better(best, _shrink(error, best[0], high, sides=(False, True)))
    best = _better(best, _shrink(error, low, best[1], sides=(True, False)))
    return best[:2]


def _error(rows: Tensor, size: Tensor, grid: Grid,
           counts: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Squared error of each row for a range, as a share of its largest square."""
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
            sides: tuple[bool, bool] = (True, True)) -> _Found:
    """The shares of one or both of the limits with the least error, row by row."""
    def at(share: Tensor) -> _Found:
        ends = low * share if sides[0] else low, high * share if sides[1] else high
        return *ends, error(*ends), share

    best = at(torch.ones_like(low))
    for step in range(1, _COARSE):
        tried = at(torch.full_like(low, _RATIO**step))
        best = _better(best, tried)
        if bool((tried[2] >= _HOPELESS * best[2]).all()) and bool((tried[3] < best[3]).all()):
            break
    for fraction in _FINE:
        best = _better(best, at((best[3] * _RATIO**fraction).clamp(max=1)))
    return best


def _better(one: _Found, other: _Found) -> _Found:
    """The one with the smaller error, row by row."""
    wins = other[2] < one[2]
    low, high, error, share = (torch.where(wins, b, a) for a, b in zip(one, other, strict=True))
    return low, high, error, share
