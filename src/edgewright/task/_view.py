"""Random variations of samples that can be had again: functions of the sample and a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Policy = Literal["standard", "rand_augment"]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MASK: Final = 2**64 - 1


@dataclass(frozen=True)
class View:
    """One variation of every sample of a split; the same view of a sample is the same input.

    So an epoch can be cut into batches in any way, gone on with in its middle, or shared between
    processes, and what a teacher said of a view can be kept.

    Attributes:
        number: Which variation; any integer.
        policy: How far samples are varied: ``standard`` crops and mirrors images,
            ``rand_augment`` (Cubuk et al. 2020) distorts them before that.

    Example:
        >>> rows = np.array([3, 7])
        >>> first = View(0).draws(rows, 2)
        >>> bool((first[1] == View(0).draws(rows[1:], 2)[0]).all())
        True
    """

    number: int
    policy: Policy = "standard"

    def draws(self, rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """Random numbers, ``count`` a sample, each a function of view, sample and position.

        SplitMix64 (Steele, Lea & Flood 2014) gives the numbers of a stream by their position;
        view and row choose the stream.

        Args:
            rows: Which samples, (N,).
            count: Numbers a sample.

        Returns:
            Uniform in [0, 1), (N, count).
        """
        view = _mixed(np.uint64((self.number + int(_GOLDEN)) & _MASK))
        streams = _mixed(rows.astype(np.uint64) ^ view)
        positions = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        bits = _mixed(streams[:, None] + positions[None, :])
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(values: np.uint64 | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: every bit of the input moves half of the output's."""
    mixed = np.atleast_1d(values)  # arrays wrap around in silence, as is meant; scalars warn
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
