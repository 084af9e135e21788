"""The range that leaves out a share of the numbers, as outliers."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from edgewright.quantization.calibration._histogram import BINS, Histogram

_ROUNDING: Final = 1e-9


def percentile_of_histogram(histogram: Histogram, percentile: float) -> tuple[Tensor, Tensor]:
    """The range of the middle ``percentile`` percent of the numbers, to a bin's width outwards.

    Half of the others are left out below and half above; where no number is below zero (or none
    above), all of them on the side where the numbers are.

    Args:
        histogram: Of at least one number.
        percentile: Of the numbers to keep, 50 to 100.

    Example:
        >>> histogram = Histogram()
        >>> histogram.update(torch.arange(1., 101.))
        >>> round(percentile_of_histogram(histogram, 90)[1].item())
        90
    """
    low, high = histogram.extremes()
    cut = _left_out(int(histogram.counts.sum()), percentile, low, high)
    below = (histogram.counts.cumsum(0) <= cut).sum()
    above = (histogram.counts.flip(0).cumsum(0) <= cut).sum()
    return (below - BINS) * histogram.width, (BINS - above) * histogram.width


def percentile_of_rows(rows: Tensor, low: Tensor, high: Tensor,
                       percentile: float) -> tuple[Tensor, Tensor]:
    """As `percentile_of_histogram`, exactly, for each row of a tensor in memory.

    Args:
        rows: (R, N), N at least 1.
        low: The least number of each row, (R,).
        high: The greatest.
        percentile: Of the numbers to keep.
    """
    count = rows.shape[-1]
    ordered = rows.sort(dim=-1).values
    cut = _left_out(count, percentile, low, high).unsqueeze(-1)
    return (ordered.gather(-1, cut).squeeze(-1),
            ordered.gather(-1, count - 1 - cut).squeeze(-1))


def _left_out(count: int, percentile: float, low: Tensor, high: Tensor) -> Tensor:
    """How many numbers are left out on a side: the whole share, or half of it where there are two.

    Less than half of all numbers, as the percentile is above 50.
    """
    share = count * (100 - percentile) / 100 + _ROUNDING
    both = (low < 0) & (high > 0)
    return torch.where(both, int(share / 2), int(share))
