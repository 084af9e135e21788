"""The widths that groups may have, and the importance of the channels they would keep."""

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
_MIN_STEPS: Final = 4  # the smallest number of steps in a dimension with ``auto``


@dataclass(frozen=True)
class LegalWidths:
    """Which widths groups may have after pruning.

    Attributes:
        round_to: Tensor sizes must be multiples of this. ``auto`` is the largest of 16, 8, 4 and 2
            that divides a dimension into at least four steps, else 1.
        min_fraction: Smallest fraction of a group's channels to keep, rounded up.
        original_counts: Number of channels of every group, by its tensors, before any pruning; None
            for the current numbers.
    """

    round_to: RoundTo = 1
    min_fraction: float = 0.0
    original_counts: Mapping[GroupKey, int] | None = None

    @property
    def description(self) -> str:
        """The rule as text for messages."""
        minimum = (f", at least {self.min_fraction:.3g} of every group"
                   if self.min_fraction else "")
        steps = "in automatic steps" if self.round_to == "auto" else f"in steps of {self.round_to}"
        return f"widths {steps}{minimum}"


@dataclass(frozen=True)
class GroupWidths:
    """The possible widths of one group, and the scores of its channels.

    Attributes:
        legal: Numbers of channels it may keep, ascending; the last is all of them.
        ranked: Its channels, the least important first.
        values: Their scores, in the same order; possibly divided by the group's mean.
        is_largest_factor: Whether it is the largest factor of every product it is in; True for most
            groups, which are in no product.
    """

    legal: NDArray[np.int64]
    ranked: tuple[int, ...]
    values: NDArray[np.float64]
    is_largest_factor: bool = True

    @property
    def count(self) -> int:
        """Number of its channels."""
        return len(self.ranked)

    def nearest(self, kept: float) -> int:
        """The legal width nearest to ``kept``; the smaller one if two are equally near."""
        return int(self.legal[np.abs(self.legal - kept).argmin()])

    def cumulative_scores(self) -> NDArray[np.float64]:
        """Summed score of the n best channels, for n = 0, 1, ... up to all of them."""
        return np.concatenate([[0.0], np.cumsum(self.values[::-1])])


def compute_group_widths(groups: ChannelGroups, rule: LegalWidths,
              scores: Mapping[int, float] | None = None,
              normalize: bool = True) -> list[GroupWidths]:
    """Compute the possible widths and ranked channels of every group.

    Args:
        groups: The program's groups.
        rule: Which widths are legal. If a channel occupies several indices of every tensor
            dimension (a head, a conv group), fewer channels make up one multiple.
        scores: Importance of every channel; None for equal importance.
        normalize: Divide scores by their group's mean.
    """
    found = []
    largest: dict[int, int] = {}
    for number, group in enumerate(groups.groups):
        for product in group.products:
            other = largest.setdefault(product, number)
            if len(group.channels) > len(groups.groups[other].channels):
                largest[product] = number
    for number, (key, group) in enumerate(_with_keys(groups)):
        values = np.array([1.0 if scores is None else scores[channel]
                           for channel in group.channels], dtype=np.float64)
        mean = values.mean()
        if normalize and mean > 0:
            values = values / mean
        order = np.argsort(values, kind="stable")
        count = len(values)
        original = (rule.original_counts or {}).get(key, count)
        minimum = math.ceil(rule.min_fraction * max(count, original))
        legal = legal_widths(count, rounding_step(groups, group, rule.round_to), minimum)
        found.append(GroupWidths(legal, tuple(group.channels[index] for index in order),
                                 values[order],
                                 all(largest[product] == number for product in group.products)))
    return found


def count_channels(groups: ChannelGroups) -> dict[GroupKey, int]:
    """Count the channels of every group, by keys that stay valid after pruning."""
    return {key: len(group.channels) for key, group in _with_keys(groups)}


def _with_keys(groups: ChannelGroups) -> list[tuple[GroupKey, ChannelGroup]]:
    """Groups with a key: their tensors, and a number for groups with the same tensors."""
    seen: Counter[tuple[TensorDim, ...]] = Counter()
    found = []
    for group in groups.groups:
        found.append(((group.slices, seen[group.slices]), group))
        seen[group.slices] += 1
    return found


def rounding_step(groups: ChannelGroups, group: ChannelGroup, round_to: RoundTo) -> int:
    """Number of channels of a group that make up a multiple of ``round_to`` indices."""
    occupied = [len(indices) for indices in groups.slices(group.channels[0]).values()]
    multiplicity = min(occupied, default=1)
    size = multiplicity * len(group.channels)
    unit = round_to if isinstance(round_to, int) else next(
        (step for step in _STEPS if _MIN_STEPS * step <= size), 1)
    return unit // math.gcd(unit, multiplicity)


def legal_widths(count: int, step: int, minimum: int = 0) -> NDArray[np.int64]:
    """Every multiple of ``step`` from ``minimum`` to below ``count``, and ``count`` itself.

    Example:
        >>> legal_widths(10, 4).tolist(), legal_widths(10, 4, 5).tolist()
        ([4, 8, 10], [8, 10])
    """
    first = max(1, -(-minimum // step)) * step
    return np.array([*range(first, count, step), count], dtype=np.int64)
