"""The range that loses the least information: the smallest divergence of the histograms."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from edgewright.quantization.calibration._histogram import BINS, Histogram
from edgewright.quantization.scheme import Grid

_BINS: Final = 2048  # on each side of zero, as in the source
_STRIDE: Final = 8
_SMOOTHING: Final = 1e-4


def least_divergence(histogram: Histogram, grid: Grid) -> tuple[Tensor, Tensor]:
    """The range with the smallest Kullback-Leibler divergence of the histogram from its quantised.

    After S. Migacz, "8-bit inference with TensorRT", GTC 2017: for a limit ``t``, P is the
    histogram within the limit, what is outside counted in its outermost bins; Q is the same part
    without these, each level's counts spread evenly over its bins that are not empty; the ``t``
    with the smallest ``KL(P || Q)`` is taken. Departures: negative numbers have bins of their own,
    so that a grid that is not symmetric spends its levels between the extremes only; every eighth
    ``t`` is tried; Q is mixed with 0.01 % of a uniform distribution, so that no divergence is
    infinite; and the bin of zero, a number that every grid holds exactly, counts as its neighbour
    does (as in NVIDIA's pytorch-quantization), or a rectifier's zeros would decide alone.

    Args:
        histogram: Of at least one number.
        grid: With one scale for all.

    Example:
        >>> histogram = Histogram()
        >>> generator = torch.Generator().manual_seed(0)
        >>> histogram.update(torch.randn(100_000, generator=generator).exp())
        >>> grid = Grid(8, signed=False, symmetric=False, role="activation")
        >>> low, high = least_divergence(histogram, grid)
        >>> bool(high < 0.7 * histogram.extremes()[1])
        True
    """
    low, high = histogram.extremes()
    counts = histogram.counts.view(2 * _BINS, -1).sum(1).double()
    counts[_BINS] = counts[_BINS + 1]
    width = histogram.width * BINS / _BINS
    below, above = (math.ceil(max(0.0, reach) / width) for reach in (-float(low), float(high)))
    levels = min(grid.steps + 1, 2**grid.bits)
    reach = max(below, above, 1)
    best, chosen = math.inf, reach
    for limit in _limits(levels, below, above, grid.symmetric):
        part = ((_BINS - limit, _BINS + limit) if grid.symmetric else
                (_BINS - min(limit, below), _BINS + min(limit, above)))
        divergence = _divergence(counts, *part, levels)
        if divergence < best:
            best, chosen = divergence, limit
    edge = torch.tensor(chosen * width)
    return -edge, edge


def _limits(levels: int, below: int, above: int, symmetric: bool) -> range:
    """Limits to try, the extremes last: each leaves a bin a level at least."""
    reach = max(below, above, 1)
    both = symmetric or min(below, above) > 0
    least = min(reach, max(1, levels // 2 if both else levels))
    return range(reach - (reach - least) // _STRIDE * _STRIDE, reach + 1, _STRIDE)


def _divergence(counts: Tensor, start: int, stop: int, levels: int) -> float:
    """``KL(P || Q)`` for the bins from ``start`` to ``stop``."""
    inside = counts[start:stop]
    total = inside.sum()
    if total == 0:
        return math.inf
    p = inside.clone()
    p[0] += counts[:start].sum()
    p[-1] += counts[stop:].sum()
    level = torch.arange(len(inside)) * levels // len(inside)
    occupied = (inside > 0).double()
    mass = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, inside)
    bins = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, occupied)
    q = (mass / bins.clamp(min=1))[level] * occupied / total
    q = (1 - _SMOOTHING) * q + _SMOOTHING / len(q)
    p = p / p.sum()
    return float(torch.special.xlogy(p, p / q).sum())
