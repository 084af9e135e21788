"""Several removals in a row, told as one."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

import numpy as np
from numpy.typing import NDArray

from edgewright.channels import ChannelGroups


@final
class Survivors:
    """Which channels of a program are gone after removals, each from what the one before left.

    A channel is found again by the indices of the tensors it is sliced from: labels are given anew
    in every program, and a group that has one channel left is no group any more. It is gone when
    all of its indices are: those of a head are each one of a width's too.

    Args:
        groups: Of the program that all began with.

    Example:
        >>> import torch
        >>> from edgewright.channels import find_groups, remove_channels
        >>> from edgewright.program import Program
        >>> program = Program.capture(torch.nn.Sequential(torch.nn.Linear(2, 4),
        ...                           torch.nn.Linear(4, 1)), torch.zeros(1, 2))
        >>> groups = find_groups(program)
        >>> a, b, c, d = groups.groups[0].channels
        >>> survivors = Survivors(groups)
        >>> survivors.remove(groups, [b])
        >>> groups = find_groups(remove_channels(program, groups, [b]))
        >>> survivors.remove(groups, groups.groups[0].channels[1:2])  # the second that is left
        >>> survivors.gone == {b, c}
        True
    """

    def __init__(self, groups: ChannelGroups) -> None:
        self._groups = groups
        self._kept: dict[tuple[str, int], NDArray[np.int64]] = {
            (name, dim): np.arange(len(labels))
            for group in groups.groups for name, dim in group.slices
            if (labels := groups.tensor(name)[dim]) is not None}

    def remove(self, groups: ChannelGroups, channels: Collection[int]) -> None:
        """Note that these channels go, of the program that is left so far."""
        gone = groups.removed_flags(channels)
        for (name, dim), kept in self._kept.items():
            labels = groups.tensor(name)[dim]
            if labels is not None:  # one that is left alone has no label, and stays
                self._kept[name, dim] = kept[~gone[labels]]

    @property
    def gone(self) -> set[int]:
        """The channels that are gone, by their labels in the program that all began with."""
        left = {place: set(kept.tolist()) for place, kept in self._kept.items()}
        return {channel for channel in self._groups.channels.tolist()
                if all(left[place].isdisjoint(indices.tolist())
                       for place, indices in self._groups.slices(channel).items())}
