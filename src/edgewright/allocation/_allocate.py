"""Choosing the channels to remove for a given fraction of the program's cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np

from edgewright.allocation._cost_model import CostModel
from edgewright.allocation._solve import Problem, solve_widths
from edgewright.channels import (
    ChannelGroups,
    GroupWidths,
    LegalWidths,
    Widths,
    compute_group_widths,
)
from edgewright.errors import UsageError

AllocationMethod: TypeAlias = Literal["uniform", "global", "solved"]
_STEPS: Final = 30
_REPAIRS: Final = 10
_ROUNDING: Final = 1e-12  # tolerance for a ratio that was computed from the cost it limits


@dataclass(frozen=True)
class Allocation:
    """How much of the cost to remove, and by which rule.

    If only a few groups can be pruned or the ratio is high, ``solved`` makes the best use of the
    scores; ``global`` is faster and usually close to it. Use ``uniform`` as a baseline, or if the
    scores of different groups cannot be compared.

    Attributes:
        ratio: Fraction of the cost to remove, between 0 and 1.
        method: ``uniform`` removes the same fraction of every group, ``global`` the least important
            channels of all groups, ``solved`` maximizes the summed score of the kept channels.
        legal: Which widths groups may have after pruning.
        normalize: Divide scores by their group's mean before groups are compared.
        original: The cost that ``ratio`` is a fraction of; None for the program's current cost.
    """

    ratio: float = 0.5
    method: AllocationMethod = "global"
    legal: LegalWidths = field(default_factory=LegalWidths)
    normalize: bool = True
    original: float | None = None

    def goal(self, full: float) -> float:
        """The largest cost allowed after pruning a program that costs ``full``."""
        return (full if self.original is None else self.original) * (1 - self.ratio + _ROUNDING)


def allocate_channels(cost: CostModel, scores: Mapping[int, float],
                      allocation: Allocation) -> list[int]:
    """Choose channels whose removal saves at least ``ratio`` of the cost, and little more.

    ``uniform`` and ``global`` find the necessary strictness by bisection on the cost; ``solved`` is
    an integer program (see `solve_widths`). The cost of the result is counted exactly.

    Args:
        cost: Cost model of the program to prune.
        scores: Importance of every channel of every group; the lowest are removed first.
        allocation: How much to remove, and by which rule.

    Raises:
        UsageError: Even the smallest legal program costs too much.

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
    choices = compute_group_widths(cost.groups, allocation.legal, scores, allocation.normalize)
    goal = aim = allocation.goal(cost.full)
    for _ in range(_REPAIRS):
        widths = _bisect(Problem(choices, cost, aim), allocation.method)
        removed = lowest(choices, widths)
        excess = cost.without(removed) - goal
        if excess <= 0:
            return removed
        aim -= excess
    return lowest(choices, narrowest_widths(choices))


def require_reachable(cost: CostModel, allocation: Allocation) -> None:
    """Check that the smallest legal program reaches the ratio.

    Raises:
        UsageError: It does not; the message says what the smallest legal program keeps.
    """
    minimum = cost.without(smallest(cost.groups, allocation.legal))
    if minimum > allocation.goal(cost.full):
        fraction = minimum / (allocation.original or cost.full)
        raise UsageError(
            f"cannot remove {100 * allocation.ratio:.0f} % of the {cost.target}: the smallest "
            f"legal program keeps {100 * fraction:.1f} % ({allocation.legal.description}); remove "
            "less, lower least_width or round_to, or ignore fewer layers")


def smallest(groups: ChannelGroups, legal: LegalWidths) -> list[int]:
    """Choose the channels to remove for the smallest legal program, with equal scores."""
    choices = compute_group_widths(groups, legal)
    return lowest(choices, narrowest_widths(choices))


def select_uniform(groups: ChannelGroups, strictness: float, legal: LegalWidths) -> list[int]:
    """Choose the channels to remove if every group loses the same fraction, with equal scores."""
    choices = compute_group_widths(groups, legal)
    return lowest(choices, uniform(choices, strictness))


def uniform(choices: Sequence[GroupWidths], strictness: float) -> Widths:
    """Widths with the same fraction of every dimension removed.

    In a dimension that is a product (heads times head width) only the largest factor is reduced, up
    to one half; beyond that the others are reduced as well.
    """
    shares = (strictness, max(0.0, 2 * strictness - 1))
    return np.array([group.nearest(group.count * (1 - shares[not group.is_largest_factor]))
                     for group in choices], dtype=np.int64)


def narrowest_widths(choices: Sequence[GroupWidths]) -> Widths:
    """The smallest legal widths."""
    return np.array([group.legal[0] for group in choices], dtype=np.int64)


def lowest(choices: Sequence[GroupWidths], widths: Widths) -> list[int]:
    """The channels to remove: the least important ones of every group, down to its width."""
    return [channel for group, width in zip(choices, widths.tolist(), strict=True)
            for channel in group.ranked[: group.count - width]]


def _bisect(problem: Problem, method: AllocationMethod) -> Widths:
    ranked = _rank_channels(problem.groups)

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


def _rank_channels(groups: Sequence[GroupWidths]) -> np.ndarray:
    """The group of every channel, sorted by importance, the least important first.

    Equal scores are sorted by the channel's relative rank in its own group.
    """
    values = np.concatenate([group.values for group in groups])
    owner = np.repeat(np.arange(len(groups)), [group.count for group in groups])
    rank = np.concatenate([np.arange(group.count) / group.count for group in groups])
    order: np.ndarray = owner[np.lexsort((rank, values))]
    return order
