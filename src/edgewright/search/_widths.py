"""Widths a group may have, and what the channels it would keep are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgewright.program import ChannelGroup, ChannelGroups


@dataclass(frozen=True)
class GroupWidths:
    """One group's choices.

    Attributes:
        legal: Channels it may keep, ascending; the last is all of them.
        ranked: Its channels, the least important first.
        values: Their scores, in the same order; divided by the group's mean if so wished.
        leads: It is the largest factor of every product it is in (and in none, mostly).
    """

    legal: NDArray[np.int64]
    ranked: tuple[int, ...]
    values: NDArray[np.float64]
    leads: bool = True

    @property
    def count(self) -> int:
        """Channels it has."""
        return len(self.ranked)

    def nearest(self, kept: float) -> int:
        """The legal width nearest to ``kept``; the smaller of two."""
        return int(self.legal[np.abs(self.legal - kept).argmin()])

    def worth(self) -> NDArray[np.float64]:
        """Summed score of the best channels, for 0, 1, ... all of them."""
        return np.concatenate([[0.0], np.cumsum(self.values[::-1])])


def widths_of(groups: ChannelGroups, round_to: int, scores: Mapping[int, float] | None = None,
              normalize: bool = True) -> list[GroupWidths]:
    """The choices of every group.

    Args:
        groups: The program's groups.
        round_to: Sizes of tensors are to be multiples of this. A channel that occupies several
            indices of every tensor dimension (a head, a conv group) needs a smaller step for it.
        scores: Importance of every channel; all alike if left out.
        normalize: Divide scores by their group's mean.
    """
    found = []
    largest: dict[int, int] = {}
    for number, group in enumerate(groups.groups):
        for product in group.products:
            other = largest.setdefault(product, number)
            if len(group.channels) > len(groups.groups[other].channels):
                largest[product] = number
    for number, group in enumerate(groups.groups):
        values = np.array([1.0 if scores is None else scores[channel]
                           for channel in group.channels], dtype=np.float64)
        mean = values.mean()
        if normalize and mean > 0:
            values = values / mean
        order = np.argsort(values, kind="stable")
        legal = legal_widths(len(values), step_of(groups, group, round_to))
        found.append(GroupWidths(legal, tuple(group.channels[index] for index in order),
                                 values[order],
                                 all(largest[product] == number for product in group.products)))
    return found


def step_of(groups: ChannelGroups, group: ChannelGroup, round_to: int) -> int:
    """Channels of a group that make a multiple of ``round_to`` indices in its tensors."""
    occupied = [len(indices) for indices in groups.slices(group.channels[0]).values()]
    multiplicity = min(occupied, default=1)
    return round_to // math.gcd(round_to, multiplicity)


def legal_widths(count: int, step: int) -> NDArray[np.int64]:
    """Every multiple of ``step`` below ``count``, and ``count`` itself.

    Example:
        >>> legal_widths(10, 4).tolist(), legal_widths(3, 4).tolist()
        ([4, 8, 10], [3])
    """
    return np.array([*range(step, count, step), count], dtype=np.int64)
