"""Widths a group may have, and what the channels it would keep are worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgewright.channels._channels import ChannelGroup, ChannelGroups

TensorDim: TypeAlias = tuple[str, int]
RoundTo: TypeAlias = int | Literal["auto"]
GroupKey: TypeAlias = tuple[tuple[TensorDim, ...], int]
_STEPS: Final = (16, 8, 4, 2)
_FEWEST_STEPS: Final = 4  # that ``auto`` leaves a dimension


@dataclass(frozen=True)
class LegalWidths:
    """Which widths groups may be left with.

    Attributes:
        round_to: What sizes of tensors are to be multiples of; ``auto`` is the largest of 16, 8,
            4 and 2 that divides a dimension into four steps at least, else 1.
        least: Share of a group's channels that stays at least, rounded up.
        whole: Channels of every group, by its tensors, before anything was removed; those it has
            now if left out.
    """

    round_to: RoundTo = 1
    least: float = 0.0
    whole: Mapping[GroupKey, int] | None = None

    @property
    def words(self) -> str:
        """The rule, as messages tell it."""
        least = f", {self.least:.3g} of every group at least" if self.least else ""
        steps = "in automatic steps" if self.round_to == "auto" else f"in steps of {self.round_to}"
        return f"widths {steps}{least}"


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


def widths_of(groups: ChannelGroups, rule: LegalWidths,
              scores: Mapping[int, float] | None = None,
              normalize: bool = True) -> list[GroupWidths]:
    """The choices of every group.

    Args:
        groups: The program's groups.
        rule: Which widths are legal. A channel that occupies several indices of every tensor
            dimension (a head, a conv group) needs a smaller step to make a multiple.
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
    for number, (key, group) in enumerate(_keyed(groups)):
        values = np.array([1.0 if scores is None else scores[channel]
                           for channel in group.channels], dtype=np.float64)
        mean = values.mean()
        if normalize and mean > 0:
            values = values / mean
        order = np.argsort(values, kind="stable")
        count = len(values)
        least = math.ceil(rule.least * max(count, (rule.whole or {}).get(key, count)))
        legal = legal_widths(count, step_of(groups, group, rule.round_to), least)
        found.append(GroupWidths(legal, tuple(group.channels[index] for index in order),
                                 values[order],
                                 all(largest[product] == number for product in group.products)))
    return found


def counts_of(groups: ChannelGroups) -> dict[GroupKey, int]:
    """Channels of every group, to be found again in a program that was pruned since."""
    return {key: len(group.channels) for key, group in _keyed(groups)}


def _keyed(groups: ChannelGroups) -> list[tuple[GroupKey, ChannelGroup]]:
    """Groups by their tensors; heads and their width, of the same ones, in order."""
    seen: Counter[tuple[TensorDim, ...]] = Counter()
    found = []
    for group in groups.groups:
        found.append(((group.slices, seen[group.slices]), group))
        seen[group.slices] += 1
    return found


def step_of(groups: ChannelGroups, group: ChannelGroup, round_to: RoundTo) -> int:
    """Channels of a group that make a multiple of ``round_to`` indices in its tensors."""
    occupied = [len(indices) for indices in groups.slices(group.channels[0]).values()]
    multiplicity = min(occupied, default=1)
    size = multiplicity * len(group.channels)
    unit = round_to if isinstance(round_to, int) else next(
        (step for step in _STEPS if _FEWEST_STEPS * step <= size), 1)
    return unit // math.gcd(unit, multiplicity)


def legal_widths(count: int, step: int, least: int = 0) -> NDArray[np.int64]:
    """Every multiple of ``step`` from ``least`` to below ``count``, and ``count`` itself.

    Example:
        >>> legal_widths(10, 4).tolist(), legal_widths(10, 4, 5).tolist()
        ([4, 8, 10], [8, 10])
    """
    first = max(1, -(-least // step)) * step
    return np.array([*range(first, count, step), count], dtype=np.int64)
