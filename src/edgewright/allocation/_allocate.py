"""Which channels go, for a given share of what the program costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np

from edgewright.allocation._cost_model import CostModel
from edgewright.allocation._solve import Problem, solve_widths
from edgewright.channels import ChannelGroups, GroupWidths, LegalWidths, Widths, widths_of
from edgewright.errors import UsageError

Method: TypeAlias = Literal["uniform", "global", "solved"]
_STEPS: Final = 30
_REPAIRS: Final = 10
_ROUNDING: Final = 1e-12  # of a ratio that was computed from the very cost it asks for


@dataclass(frozen=True)
class Allocation:
    """How much goes, and by which rule.

    Attributes:
        ratio: Share of the cost to remove, between 0 and 1.
        method: ``uniform`` takes the same share of every group, ``global`` the least important
            channels wherever they are, ``solved`` keeps the best summed score there is.
        legal: Which widths groups may be left with.
        normalize: Divide scores by their group's mean before groups are compared.
        original: What the ratio is a share of; what the program costs if left out.
    """

    ratio: float = 0.5
    method: Method = "global"
    legal: LegalWidths = field(default_factory=LegalWidths)
    normalize: bool = True
    original: float | None = None

    def goal(self, full: float) -> float:
        """The most that may be left of a program that costs ``full``."""
        return (full if self.original is None else self.original) * (1 - self.ratio + _ROUNDING)


def allocate_channels(cost: CostModel, scores: Mapping[int, float],
                      allocation: Allocation) -> list[int]:
    """The channels to remove so that at least ``ratio`` of the cost goes, and little more.

    ``uniform`` and ``global`` are as strict as bisection on the cost finds necessary; ``solved`` is
    an integer program (see `solve_widths`). What is returned has been counted exactly.

    Args:
        cost: Of the program that is to be pruned.
        scores: Importance of every channel of every group; the lowest go first.
        allocation: How much, and by which rule.

    Raises:
        UsageError: Even the smallest legal program keeps too much.

    Example:
        >>> from edgewright.channels import find_groups
        >>> import torch
        >>> from edgewright.program import Program
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
        >>> program = Program.capture(model, torch.zeros(1, 4))
        >>> groups = find_groups(program)
        >>> scores = {channel: float(channel) for channel in groups.groups[0].channels}
        >>> cost = CostModel(program, groups, "macs")
        >>> removed = allocate_channels(cost, scores, Allocation(ratio=0.25))
        >>> [groups.groups[0].channels.index(channel) for channel in removed]
        [0, 1]
    """
    require_reachable(cost, allocation)
    choices = widths_of(cost.groups, allocation.legal, scores, allocation.normalize)
    goal = aim = allocation.goal(cost.full)
    for _ in range(_REPAIRS):
        widths = _bisected(Problem(choices, cost, aim), allocation.method)
        removed = lowest(choices, widths)
        excess = cost.without(removed) - goal
        if excess <= 0:
            return removed
        aim -= excess
    return lowest(choices, narrowest(choices))


def require_reachable(cost: CostModel, allocation: Allocation) -> None:
    """Refuse a ratio that not even the smallest legal program reaches.

    Raises:
        UsageError: It does not; what it keeps is named.
    """
    least = cost.without(smallest(cost.groups, allocation.legal))
    if least > allocation.goal(cost.full):
        share = least / (allocation.original or cost.full)
        raise UsageError(
            f"cannot remove {allocation.ratio:.0%} of the {cost.target}: the smallest legal "
            f"program keeps {share:.1%} ({allocation.legal.words}); ask for less, lower "
            "least_width or round_to, or ignore fewer layers")


def smallest(groups: ChannelGroups, legal: LegalWidths) -> list[int]:
    """The channels that go where the smallest legal program is left, all worth the same."""
    choices = widths_of(groups, legal)
    return lowest(choices, narrowest(choices))


def select_uniform(groups: ChannelGroups, strictness: float, legal: LegalWidths) -> list[int]:
    """The channels that go when every group loses the same share, whatever they are worth."""
    choices = widths_of(groups, legal)
    return lowest(choices, uniform(choices, strictness))


def uniform(choices: Sequence[GroupWidths], strictness: float) -> Widths:
    """Widths with the same share of every dimension gone.

    Of a dimension that is a product (heads times head width) the largest factor takes it all; the
    others follow beyond a half.
    """
    shares = (strictness, max(0.0, 2 * strictness - 1))
    return np.array([group.nearest(group.count * (1 - shares[not group.leads]))
                     for group in choices], dtype=np.int64)


def narrowest(choices: Sequence[GroupWidths]) -> Widths:
    """The smallest legal widths."""
    return np.array([group.legal[0] for group in choices], dtype=np.int64)


def lowest(choices: Sequence[GroupWidths], widths: Widths) -> list[int]:
    """The least important channels of every group, but for as many as its width."""
    return [channel for group, width in zip(choices, widths.tolist(), strict=True)
            for channel in group.ranked[: group.count - width]]


def _bisected(problem: Problem, method: Method) -> Widths:
    ranked = _ranked(problem.groups)

    def at(strictness: float) -> Widths:
        if method == "uniform":
            return uniform(problem.groups, strictness)
        gone = np.bincount(ranked[: int(strictness * len(ranked))], minlength=len(problem.groups))
        return np.array([group.nearest(group.count - count) for group, count
                         in zip(problem.groups, gone.tolist(), strict=True)], dtype=np.int64)

    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if problem.cost.at(at(middle)) <= problem.goal:
            high = middle
        else:
            low = middle
    return at(high) if method != "solved" else solve_widths(problem, at(high))


def _ranked(groups: Sequence[GroupWidths]) -> np.ndarray:
    """The group of every channel, from the least important channel to the most.

    Of equal values those go first that are a smaller part of their own group.
    """
    values = np.concatenate([group.values for group in groups])
    owner = np.repeat(np.arange(len(groups)), [group.count for group in groups])
    rank = np.concatenate([np.arange(group.count) / group.count for group in groups])
    order: np.ndarray = owner[np.lexsort((rank, values))]
    return order
