"""Entropy calibration: the range with the smallest divergence between histograms."""

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


def find_entropy_range(histogram: Histogram, grid: Grid) -> tuple[Tensor, Tensor]:
    """The range with the smallest Kullback-Leibler divergence of the quantized histogram.

    After S. Migacz, "8-bit inference with TensorRT", GTC 2017. For a limit ``t``, P is the
    histogram within the limit, with the counts outside added to the outermost bins. Q is the same
    part without those counts, with each level's counts spread evenly over its non-empty bins. The
    ``t`` with the smallest ``KL(P || Q)`` is chosen. Differences from the source: negative numbers
    have their own bins, so that an asymmetric grid uses its levels only between the extremes; every
    eighth ``t`` is tried; Q is mixed with 0.01 % of a uniform distribution, so that the divergence
    is always finite; and the bin of zero, which every grid represents exactly, gets the count of
    its neighbor (as in NVIDIA's pytorch-quantization), because otherwise the zeros of a ReLU would
    dominate.

    Args:
        histogram: A histogram of at least one number.
        grid: A grid with one scale.

    Example:
        >>> histogram = Histogram()
        >>> generator = torch.Generator().manual_seed(0)
        >>> histogram.update(torch.randn(100_000, generator=generator).exp())
        >>> grid = Grid(8, signed=False, symmetric=False, role="activation")
        >>> low, high = find_entropy_range(histogram, grid)
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
    """The limits to try, the extremes last; each has at least one bin per level."""
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
