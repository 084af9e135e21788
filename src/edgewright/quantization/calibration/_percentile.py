"""Percentile calibration: the range that excludes a percentage of the values as outliers."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from edgewright.quantization.calibration._histogram import BINS, Histogram

_ROUNDING: Final = 1e-9


def find_percentile_range_of_histogram(histogram: Histogram,
                                       percentile: float) -> tuple[Tensor, Tensor]:
    """The range of the middle ``percentile`` percent of the values, rounded outward to a bin edge.

    Half of the other values are excluded below and half above. If no value is below zero (or none
    above), all are excluded on the side where the values are.

    Args:
        histogram: A histogram of at least one value.
        percentile: Percentage of the values to keep, 50 to 100.

    Example:
        >>> histogram = Histogram()
        >>> histogram.update(torch.arange(1., 101.))
        >>> round(find_percentile_range_of_histogram(histogram, 90)[1].item())
        90
    """
    low, high = histogram.extremes()
    cut = _count_excluded(int(histogram.counts.sum()), percentile, low, high)
    below = (histogram.counts.cumsum(0) <= cut).sum()
    above = (histogram.counts.flip(0).cumsum(0) <= cut).sum()
    return (below - BINS) * histogram.width, (BINS - above) * histogram.width


def find_percentile_range_of_rows(rows: Tensor, low: Tensor, high: Tensor,
                       percentile: float) -> tuple[Tensor, Tensor]:
    """The exact percentile range of each row; see `find_percentile_range_of_histogram`.

    Args:
        rows: (R, N), N at least 1.
        low: The minimum of each row, (R,).
        high: The maximum of each row, (R,).
        percentile: Percentage of the values to keep.
    """
    count = rows.shape[-1]
    ordered = rows.sort(dim=-1).values
    cut = _count_excluded(count, percentile, low, high).unsqueeze(-1)
    return (ordered.gather(-1, cut).squeeze(-1),
            ordered.gather(-1, count - 1 - cut).squeeze(-1))


def _count_excluded(count: int, percentile: float, low: Tensor, high: Tensor) -> Tensor:
    """How many values to exclude per side: half of them if there are two sides, otherwise all.

    The result is less than half of all values, because the percentile is above 50.
    """
    share = count * (100 - percentile) / 100 + _ROUNDING
    both = (low < 0) & (high > 0)
    return torch.where(both, int(share / 2), int(share))
