"""Choosing the channels to remove if the width of every group is given."""

from __future__ import annotations

from collections.abc import Mapping

from edgewright.channels import ChannelGroups, resolve_widths
from edgewright.program import Program


def channels_above_widths(program: Program, groups: ChannelGroups, scores: Mapping[int, float],
                          widths: Mapping[str, int]) -> list[int]:
    """The channels to remove: the least important ones of every group, down to its width.

    Args:
        program: The program that ``groups`` was found in.
        groups: The program's channel groups.
        scores: Importance of every channel.
        widths: Number of channels to keep, by name; see `resolve_widths`.

    Raises:
        UsageError: A name or a width does not fit the program.
    """
    removed: list[int] = []
    kept = resolve_widths(program, groups, widths)
    for group, width in zip(groups.groups, kept, strict=True):
        ranked = sorted(group.channels, key=scores.__getitem__)
        removed += ranked[: len(ranked) - width]
    return removed
