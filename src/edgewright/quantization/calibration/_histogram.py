"""A histogram of a stream, in memory that does not grow with it."""

from __future__ import annotations

import math
from typing import Final, final

import torch
from torch import Tensor

from edgewright.quantization.calibration._values import extremes_of, unseen

BINS: Final = 8192  # on each side of zero
_DOUBLINGS: Final = BINS.bit_length() - 1
_LEAST_EXPONENT: Final = -100


@final
class Histogram:
    """Counts of numbers in ``2 * BINS`` bins of equal width, half of them below zero.

    The width is the least power of two at which every number so far fits in. A number too large
    doubles it until it does, and bins merge in pairs; as zero is an edge between two bins, no bin
    is ever split. So the counts are exactly those of all numbers at once: neither the batches nor
    their order leave a trace.

    Attributes:
        counts: int64 of shape (2 * BINS,); bin ``i`` begins at ``(i - BINS) * width``, included.

    Example:
        >>> histogram = Histogram()
        >>> histogram.update(torch.tensor([0.4, 0.6]))
        >>> histogram.width * BINS
        1.0
        >>> histogram.update(torch.tensor([-3.0]))
        >>> histogram.width * BINS, histogram.counts.sum()
        (4.0, tensor(3))
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(2 * BINS, dtype=torch.int64)
        self._exponent = _LEAST_EXPONENT
        self._extremes: tuple[Tensor, Tensor] | None = None

    @property
    def width(self) -> float:
        """Of every bin; a power of two."""
        return 2.0**self._exponent

    def update(self, x: Tensor) -> None:
        """Count the numbers of ``x``, of any shape and floating-point type.

        Raises:
            DataError: A number is NaN or infinite.
        """
        if x.numel() == 0:
            return
        x = x.detach().float().flatten()
        low, high = (value.cpu() for value in extremes_of(x))
        self._widen(max(-float(low), float(high)))
        if self._extremes is not None:
            low, high = low.minimum(self._extremes[0]), high.maximum(self._extremes[1])
        self._extremes = low, high
        places = torch.mul(x, 1 / self.width).floor_().add_(BINS).int()
        self.counts += torch.bincount(places, minlength=2 * BINS).cpu()

    def extremes(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest number, float32 of shape ().

        Raises:
            DataError: Nothing was counted.
        """
        if self._extremes is None:
            raise unseen()
        return self._extremes

    def points(self) -> tuple[Tensor, Tensor]:
        """Bins that are not empty: their centres, float32, none beyond the extremes; counts."""
        low, high = self.extremes()
        occupied = self.counts.nonzero().flatten()
        centres = (occupied - BINS + 0.5) * self.width
        return centres.float().clamp(low, high), self.counts[occupied]

    def _widen(self, magnitude: float) -> None:
        """Make room for a number of this magnitude."""
        exponent = max(math.frexp(magnitude)[1] - _DOUBLINGS, _LEAST_EXPONENT)
        if exponent <= self._exponent:
            return
        merged = 2**min(exponent - self._exponent, _DOUBLINGS)
        inner = self.counts.view(-1, merged).sum(1)
        self.counts = torch.zeros_like(self.counts)
        start = BINS - BINS // merged
        self.counts[start:start + len(inner)] = inner
        self._exponent = exponent
