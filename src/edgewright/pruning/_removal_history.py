"""Combines several consecutive removals of channels into one."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

import numpy as np
from numpy.typing import NDArray

from edgewright.channels import ChannelGroups


@final
class RemovalHistory:
    """Records consecutive removals as channels of the original program.

    Every removal is given in the channels of the program that the previous removal returned. Since
    channel labels are assigned again in every program, and a group with one channel left is not a
    group any more, channels are identified by their indices in the tensors that are sliced. A
    channel has been removed if all of its indices have: an index of an attention head, for example,
    also belongs to a channel of the head's width.

    Args:
        groups: The groups of the original program.

    Example:
        >>> import torch
        >>> from edgewright.channels import find_groups, remove_channels
        >>> from edgewright.program import Program
        >>> program = Program.capture(torch.nn.Sequential(torch.nn.Linear(2, 4),
        ...                           torch.nn.Linear(4, 1)), torch.zeros(1, 2))
        >>> groups = find_groups(program)
        >>> a, b, c, d = groups.groups[0].channels
        >>> history = RemovalHistory(groups)
        >>> history.record(groups, [b])
        >>> groups = find_groups(remove_channels(program, groups, [b]))
        >>> history.record(groups, groups.groups[0].channels[1:2])  # the second one of those left
        >>> history.removed == {b, c}
        True
    """

    def __init__(self, groups: ChannelGroups) -> None:
        self._groups = groups
        self._kept: dict[tuple[str, int], NDArray[np.int64]] = {
            (name, dim): np.arange(len(labels))
            for group in groups.groups for name, dim in group.slices
            if (labels := groups.tensor(name)[dim]) is not None}

    def record(self, groups: ChannelGroups, channels: Collection[int]) -> None:
        """Record the removal of ``channels`` of the current, already pruned program."""
        flags = groups.removed_flags(channels)
        for (name, dim), kept in self._kept.items():
            labels = groups.tensor(name)[dim]
            if labels is not None:  # the only channel of a dimension has no label and is kept
                self._kept[name, dim] = kept[~flags[labels]]

    @property
    def removed(self) -> set[int]:
        """The removed channels, by their labels in the original program."""
        kept = {key: set(indices.tolist()) for key, indices in self._kept.items()}
        return {channel for channel in self._groups.channels.tolist()
                if all(kept[key].isdisjoint(indices.tolist())
                       for key, indices in self._groups.slices(channel).items())}
