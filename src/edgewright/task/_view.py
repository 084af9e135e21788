"""Reproducible random variations of samples: functions of the sample and a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

AugmentationPolicy = Literal["standard", "rand_augment"]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MASK: Final = 2**64 - 1


@dataclass(frozen=True)
class View:
    """One random variation of every sample of a split; the same view yields the same inputs.

    An epoch can therefore be batched in any way, resumed midway, or shared between processes, and
    a teacher's outputs for a view can be cached.

    Attributes:
        number: Which variation; any integer.
        policy: The augmentation: ``standard`` crops and mirrors images, ``rand_augment`` (Cubuk
            et al. 2020) distorts them before that.

    Example:
        >>> rows = np.array([3, 7])
        >>> first = View(0).random_uniform(rows, 2)
        >>> bool((first[1] == View(0).random_uniform(rows[1:], 2)[0]).all())
        True
    """

    number: int
    policy: AugmentationPolicy = "standard"

    def random_uniform(self, rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """``count`` random numbers per sample, each a function of view, sample and position.

        SplitMix64 (Steele, Lea & Flood 2014) computes the numbers of a stream by position; view
        and row select the stream.

        Args:
            rows: Indices of the samples, (N,).
            count: Numbers per sample.

        Returns:
            Uniform in [0, 1), (N, count).
        """
        view = _splitmix64_finalize(np.uint64((self.number + int(_GOLDEN)) & _MASK))
        streams = _splitmix64_finalize(rows.astype(np.uint64) ^ view)
        positions = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        bits = _splitmix64_finalize(streams[:, None] + positions[None, :])
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _splitmix64_finalize(values: np.uint64 | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: flipping an input bit flips about half of the output bits."""
    mixed = np.atleast_1d(values)  # arrays wrap around silently, as intended; scalars warn
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
