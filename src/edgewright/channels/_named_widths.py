"""Widths that a user gives by name, for the groups of a program."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from edgewright.channels._channels import ChannelGroup, ChannelGroups
from edgewright.errors import UsageError
from edgewright.graph import find_input_dims, stored_tensors
from edgewright.program import Program

_LISTED: Final = 5  # names in a message


def resolve_widths(program: Program, groups: ChannelGroups,
                   widths: Mapping[str, int]) -> list[int]:
    """The number of channels that every group keeps, from widths by name.

    A group has the name that `find_groups` prints, which is unique. Any layer or weight whose
    output channels are the group's names it as well; such a name stays valid if other groups were
    pruned or the group's first layer was removed. In a product (heads times head width), a weight
    is in several groups, so only the printed names are accepted; the number after ``by`` is the
    current size of the other factors.

    Args:
        program: The program that ``groups`` was found in.
        groups: The program's channel groups.
        widths: Number of channels to keep, by name; groups without a name keep all.

    Returns:
        One width per group, in the order of ``groups.groups``.

    Raises:
        UsageError: A name is unknown, ambiguous or of a layer that cannot be pruned, a group is
            named twice, or a width is not between 1 and the group's number of channels. All faults
            are in one message.

    Example:
        >>> import torch
        >>> from edgewright.channels import find_groups
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 6),
        ...                             torch.nn.Linear(6, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> groups = find_groups(program)
        >>> resolve_widths(program, groups, {"1": 2})
        [8, 2]
        >>> resolve_widths(program, groups, {"0.weigth": 2, "1": 9})
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: widths: '0.weigth' is no group; similar names: 0.weight, 1.weight; '1' has 6 channels, expected a width from 1 to 6, got 9
    """  # noqa: E501 - the message is one line
    known, faults = _known_names(program, groups), list[str]()
    named: dict[str, str] = {}
    kept = {group.name: len(group.channels) for group in groups.groups}
    for name, width in widths.items():
        found = known.get(name, [])
        if len(found) != 1:
            faults.append(_describe_unresolved(name, found, groups, list(known)))
            continue
        (group,) = found
        count = len(group.channels)
        if group.name in named:
            faults.append(f"{named[group.name]!r} and {name!r} are the same group")
        elif not 1 <= width <= count:
            faults.append(f"{name!r} has {count} channels, expected a width from 1 to {count}, "
                          f"got {width}")
        named[group.name], kept[group.name] = name, width
    if faults:
        raise UsageError(f"widths: {'; '.join(faults)}")
    return list(kept.values())


def _known_names(program: Program, groups: ChannelGroups) -> dict[str, list[ChannelGroup]]:
    """Groups by the names of weights and layers that compute them, and by printed name."""
    tensors, inputs = stored_tensors(program.graph_module), find_input_dims(program.graph)
    known: dict[str, list[ChannelGroup]] = {}
    for group in groups.groups:
        for tensor, dim in group.slices:
            if tensors[tensor].ndim > 1 and dim not in inputs.get(tensor, ()):
                for name in {tensor, tensor.rpartition(".")[0] or tensor}:
                    found = known.setdefault(name, [])
                    if group not in found:
                        found.append(group)
    return known | {group.name: [group] for group in groups.groups}


def _describe_unresolved(name: str, found: list[ChannelGroup], groups: ChannelGroups,
                         known: list[str]) -> str:
    if found:
        listed = ", ".join(repr(group.name) for group in found)
        return f"{name!r} is in {len(found)} groups; use one of their names: {listed}"
    reason = groups.kept.get(name, groups.kept.get(f"{name}.weight"))
    if reason is not None:
        return f"{name!r} cannot be pruned: {reason}"
    near = difflib.get_close_matches(name, known, n=_LISTED, cutoff=0.5)
    if near:
        return f"{name!r} is no group; similar names: {', '.join(near)}"
    names = [group.name for group in groups.groups]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{name!r} is no group; groups: {', '.join(names[:_LISTED])}{more}"
