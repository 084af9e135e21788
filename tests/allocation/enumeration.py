"""The slow reference of a choice problem: every choice."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from edgewright.allocation import ChoiceProblem, Solution

_ROUNDING: Final = 1e-9


def enumerate_choices(problem: ChoiceProblem) -> list[Solution]:
    """Every choice within the limits, the one with the least damage first; the slow reference."""
    names = tuple(problem.decisions)
    found = []
    for combination in itertools.product(*(range(problem.decisions[name]) for name in names)):
        options = dict(zip(names, combination, strict=True))
        damage, costs = problem.damage_of(options), problem.costs_of(options)
        if np.isfinite(damage) and all(costs[name] <= limit * (1 + _ROUNDING)
                                       for name, limit in problem.limits.items()):
            found.append(Solution(options, damage, costs, 0.0))
    return sorted(found, key=lambda solution: solution.damage)
