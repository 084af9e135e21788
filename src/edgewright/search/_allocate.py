"""Which channels go, for a given share of what the program costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np

from edgewright.errors import UsageError
from edgewright.program import ChannelGroup, ChannelGroups

Target = Literal["macs", "params", "channels"]
_STEPS: Final = 30
_ROUNDING: Final = 1e-12  # of a ratio that was computed from the very cost it asks for


def allocate_channels(groups: ChannelGroups, scores: Mapping[int, float], *,
                      target: Target, ratio: float, allocation: Literal["uniform", "global"],
                      round_to: int) -> list[int]:
    """The channels to remove so that at least ``ratio`` of the target goes, and little more.

    The strictness of the allocation (a share of every group, or a threshold on scores) is found
    by bisection on the counted cost of what would be left.

    Raises:
        UsageError: Even the smallest legal program keeps too much.
    """
    before = _cost(groups, [], target)
    goal = before * (1 - ratio + _ROUNDING)

    def at(strictness: float) -> list[int]:
        return _select(groups, scores, strictness, allocation, round_to)

    least = _cost(groups, at(1.0), target)
    if least > goal:
        raise UsageError(f"cannot remove {ratio:.0%} of the {target}: the smallest legal program "
                         f"keeps {least / before:.1%} (one step of {round_to} channels in every "
                         "group); ask for less, or ignore fewer layers")
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _cost(groups, at(middle), target) <= goal:
            high = middle
        else:
            low = middle
    return at(high)


def smallest(groups: ChannelGroups, round_to: int) -> tuple[int, int]:
    """Multiply-accumulates and parameters of the smallest legal program."""
    return groups.costs_without(select_uniform(groups, 1.0, round_to))


def select_uniform(groups: ChannelGroups, strictness: float, round_to: int) -> list[int]:
    """The channels that go when every group loses the same share, whatever they are worth."""
    flat = {channel: 1.0 for group in groups.groups for channel in group.channels}
    return _select(groups, flat, strictness, "uniform", round_to)


def _cost(groups: ChannelGroups, removed: list[int], target: Target) -> float:
    if target == "channels":
        return sum(len(group.channels) for group in groups.groups) - len(removed)
    macs, parameters = groups.costs_without(removed)
    return macs if target == "macs" else parameters


def _select(groups: ChannelGroups, scores: Mapping[int, float], strictness: float,
            allocation: str, round_to: int) -> list[int]:
    removed: list[int] = []
    relative = [_relative(group, scores) for group in groups.groups]
    wanted: Sequence[float] = _lowest(relative, strictness) if allocation == "global" else [
        strictness * len(values) for values in relative]
    for group, values, share in zip(groups.groups, relative, wanted, strict=True):
        count = len(values)
        kept = _legal(count - share, count, round_to)
        order = np.argsort(values, kind="stable")
        removed.extend(group.channels[index] for index in order[: count - kept])
    return removed


def _lowest(relative: list[np.ndarray], share: float) -> list[int]:
    """How many of the lowest ``share`` of all values lie in each group.

    Of equal values those go first that are a smaller part of their own group.
    """
    values = np.concatenate(relative)
    owner = np.repeat(np.arange(len(relative)), [len(part) for part in relative])
    rank = np.concatenate([part.argsort(kind="stable").argsort() / len(part) for part in relative])
    lowest = np.lexsort((rank, values))[: int(share * len(values))]
    return [int(number) for number in np.bincount(owner[lowest], minlength=len(relative))]


def _relative(group: ChannelGroup, scores: Mapping[int, float]) -> np.ndarray:
    values = np.array([scores[channel] for channel in group.channels], dtype=np.float64)
    mean = values.mean()
    return values / mean if mean > 0 else values


def _legal(kept: float, count: int, round_to: int) -> int:
    """The nearest multiple of ``round_to``; a group keeps one step, or all it has if smaller."""
    if count <= round_to:
        return count
    return min(count, max(round_to, round_to * round(kept / round_to)))
