"""The widths with the best summed score under a limit, by integer programming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgewright.allocation._cost_model import CostModel
from edgewright.allocation._linearize import Choices, LinearForm, LinearizedCost, linearize
from edgewright.allocation._milp import MixedIntegerProgram
from edgewright.channels import GroupWidths, Widths

_BINARIES: Final = 600  # binary variables in the first program, evenly spaced widths, but
_CHOICES: Final = 16    # at least so many widths per group
_REFINED: Final = 9     # widths per group around the best so far, in the following programs
_ROUNDS: Final = 8
_TIGHTENED: Final = 3   # how often the limit is tightened in a round for an approximate cost


@dataclass(frozen=True)
class Problem:
    """The possible widths, the cost and its limit.

    Attributes:
        groups: The choices of every group.
        cost: The cost to limit.
        goal: The largest allowed cost.
    """

    groups: Sequence[GroupWidths]
    cost: CostModel
    goal: float

    def score(self, widths: Widths) -> float:
        """Summed score of the channels kept."""
        return sum(float(group.cumulative_scores()[width])
                   for group, width in zip(self.groups, widths.tolist(), strict=True))


def solve_widths(problem: Problem, start: Widths) -> Widths:
    """Maximize the summed score of the kept channels with a cost of at most ``problem.goal``.

    Each group takes one of its legal widths, with a binary variable for each. If these are too
    many, larger steps are used first, then finer ones around the best widths. If the cost is only
    approximate in the integer program, it is checked and the limit is tightened by the excess.

    Args:
        problem: Choices, cost and limit.
        start: Widths within the limit; the result has at least the same score.
    """
    best = start
    count = max(_CHOICES, _BINARIES // max(1, len(problem.groups)))
    spacings = [max(1, -(-(len(group.legal) - 1) // (count - 1))) for group in problem.groups]
    choices = [np.unique([*group.legal[::spacing], group.legal[-1]])
               for group, spacing in zip(problem.groups, spacings, strict=True)]
    is_whole = max(spacings, default=1) == 1 and _is_exact(problem)
    for _ in range(_ROUNDS):
        found = _within(problem, choices, best)
        is_finest = max(spacings, default=1) == 1
        if found is not None and problem.score(found) > problem.score(best):
            best = found
        elif is_finest:
            break
        if is_whole:
            break
        spacings = [max(1, spacing // ((_REFINED - 1) // 2)) for spacing in spacings]
        choices = [_around(group.legal, int(width), spacing) for group, width, spacing
                   in zip(problem.groups, best, spacings, strict=True)]
    return best


def _around(legal: NDArray[np.int64], width: int, spacing: int) -> NDArray[np.int64]:
    centre = int(np.searchsorted(legal, width))
    reach = (_REFINED - 1) // 2
    indices = centre + spacing * np.arange(-reach, reach + 1)
    chosen: NDArray[np.int64] = legal[np.unique(indices.clip(0, len(legal) - 1))]
    return chosen


def _is_exact(problem: Problem) -> bool:
    return all(bound.polynomial.degree <= 2 and not bound.lookups for bound in problem.cost.bounds)


def _within(problem: Problem, choices: Choices, around: Widths) -> Widths | None:
    """The best choices, or None if no solution within the limit was found."""
    costs = [linearize(bound, choices, around) for bound in problem.cost.bounds]
    goal = problem.goal
    for _ in range(_TIGHTENED):
        widths = _solution(problem.groups, costs, choices, goal)
        if widths is None:
            return None
        excess = problem.cost.at(widths) - problem.goal
        if excess <= 0:
            return widths
        goal -= excess
    return None


def _solution(groups: Sequence[GroupWidths], costs: Sequence[LinearizedCost], choices: Choices,
              goal: float) -> Widths | None:
    program = MixedIntegerProgram()
    total = sum(float(group.cumulative_scores()[-1]) for group in groups) or 1.0
    selected = [program.variables(group.cumulative_scores()[widths] / total, integer=True)
             for group, widths in zip(groups, choices, strict=True)]
    for binaries in selected:
        program.row(binaries, np.ones(len(binaries)), low=1.0, high=1.0)
    products: dict[tuple[int, LinearForm], tuple[NDArray[np.int64], float]] = {}
    for cost in costs:
        for key in cost.products:
            if key not in products:
                products[key] = _product(program, key, selected, choices)
    for cost in costs:
        _limit(program, cost, selected, products, goal)
    found = program.solve()
    if found is None:
        return None
    return np.array([widths[int(found.x[binaries].argmax())]
                     for widths, binaries in zip(choices, selected, strict=True)], dtype=np.int64)


def _product(program: MixedIntegerProgram, key: tuple[int, LinearForm],
             selected: Sequence[NDArray[np.int64]],
             choices: Choices) -> tuple[NDArray[np.int64], float]:
    """Add variables for a product: the form's value, relative to its maximum, per choice."""
    group, form = key
    ends = [sorted((coefficient * int(choices[other][0]), coefficient * int(choices[other][-1])))
            for other, coefficient in form]
    least, greatest = (sum(end[side] for end in ends) for side in (0, 1))
    scale = greatest or 1.0
    binaries = selected[group]
    shares = program.variables(np.zeros(len(binaries)), integer=False)
    parts = [(selected[other], -coefficient * choices[other] / scale)
             for other, coefficient in form]
    program.row(np.concatenate([shares, *(indices for indices, _ in parts)]),
                np.concatenate([np.ones(len(shares)), *(values for _, values in parts)]),
                low=0.0, high=0.0)
    for share, binary in zip(shares.tolist(), binaries.tolist(), strict=True):
        pair = np.array([share, binary])
        program.row(pair, np.array([1.0, -greatest / scale]), high=0.0)
        program.row(pair, np.array([1.0, -least / scale]), low=0.0)
    return shares, scale


def _limit(program: MixedIntegerProgram, cost: LinearizedCost,
           selected: Sequence[NDArray[np.int64]],
           products: dict[tuple[int, LinearForm], tuple[NDArray[np.int64], float]],
           goal: float) -> None:
    parts = [(selected[group], values) for group, values in cost.alone.items()]
    parts += [(products[key][0], values * products[key][1])
              for key, values in cost.products.items()]
    if parts:
        unit = abs(goal) or 1.0
        program.row(np.concatenate([indices for indices, _ in parts]),
                    np.concatenate([values for _, values in parts]) / unit,
                    high=(goal - cost.constant) / unit)
