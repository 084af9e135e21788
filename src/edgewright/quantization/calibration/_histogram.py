"""A streaming histogram with constant memory."""

from __future__ import annotations

import math
from typing import Final, final

import torch
from torch import Tensor

from edgewright.quantization.calibration._values import min_max_of_rows, no_values_error

BINS: Final = 8192  # on each side of zero
_DOUBLINGS: Final = BINS.bit_length() - 1
_LEAST_EXPONENT: Final = -100


@final
class Histogram:
    """Counts of values in ``2 * BINS`` bins of equal width, half of them below zero.

    The width is the smallest power of two for which all values so far fit. A larger value doubles
    the width until it fits, and bins are merged in pairs; because zero is the edge between two
    bins, no bin is ever split. The counts are therefore the same as if all values were counted at
    once, and do not depend on the batches or their order.

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
        self._min_max: tuple[Tensor, Tensor] | None = None

    @property
    def width(self) -> float:
        """The width of a bin, a power of two."""
        return 2.0**self._exponent

    def update(self, x: Tensor) -> None:
        """Count the values of ``x``, of any shape and floating-point type.

        Raises:
            DataError: A value is NaN or infinite.
        """
        if x.numel() == 0:
            return
        x = x.detach().float().flatten()
        low, high = (value.cpu() for value in min_max_of_rows(x))
        self._widen(max(-float(low), float(high)))
        if self._min_max is not None:
            low, high = low.minimum(self._min_max[0]), high.maximum(self._min_max[1])
        self._min_max = low, high
        uses = torch.mul(x, 1 / self.width).floor_().add_(BINS).int()
        self.counts += torch.bincount(uses, minlength=2 * BINS).cpu()

    def extremes(self) -> tuple[Tensor, Tensor]:
        """The minimum and the maximum, float32 of shape ().

        Raises:
            DataError: No values were counted.
        """
        if self._min_max is None:
            raise no_values_error()
        return self._min_max

    def points(self) -> tuple[Tensor, Tensor]:
        """Centers (float32, clamped to the extremes) and counts of the non-empty bins."""
        low, high = self.extremes()
        occupied = self.counts.nonzero().flatten()
        centers = (occupied - BINS + 0.5) * self.width
        return centers.float().clamp(low, high), self.counts[occupied]

    def _widen(self, magnitude: float) -> None:
        """Widen the bins so that a value of this magnitude fits."""
        exponent = max(math.frexp(magnitude)[1] - _DOUBLINGS, _LEAST_EXPONENT)
        if exponent <= self._exponent:
            return
        merged = 2**min(exponent - self._exponent, _DOUBLINGS)
        inner = self.counts.view(-1, merged).sum(1)
        self.counts = torch.zeros_like(self.counts)
        start = BINS - BINS // merged
        self.counts[start:start + len(inner)] = inner
        self._exponent = exponent
