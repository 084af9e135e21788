"""Choosing one option per decision, with costs that depend on several decisions at once.

A cost of one layer depends on its input width, its output width and its bits: on three decisions.
With one binary variable ``x[d, o]`` per option and one variable ``m`` per combination of options of
decisions that share a table, constrained to

    sum over all combinations with option o of decision d of m = x[d, o],

every table becomes linear. If all ``x`` are 0 or 1, ``m`` is 1 for exactly the chosen combination,
so the program is exact for any table, whether it was measured or calculated. This is the local
polytope of a graphical model (Wainwright & Jordan 2008, section 4.1.1), with rows for the limits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from edgewright.allocation._milp import MixedIntegerProgram

_LARGEST_DAMAGE: Final = 1e3  # the solver's absolute tolerance is 1e-6
_LARGEST_RATIO: Final = 1e3  # of a cost to its limit, in `find_nearest_miss`
_ROUNDING: Final = 1e-9
_GAP: Final = 1e-3


@final
@dataclass(frozen=True)
class Table:
    """A value for every combination of options of some decisions.

    Attributes:
        decisions: Names of the decisions, one to three.
        values: One axis per decision, one entry per option. In a table of damages, infinity forbids
            a combination.
    """

    decisions: tuple[Hashable, ...]
    values: NDArray[np.float64]

    def at(self, options: Mapping[Hashable, int]) -> float:
        """The value for the chosen options."""
        return float(self.values[tuple(options[name] for name in self.decisions)])


@final
@dataclass(frozen=True)
class ChoiceProblem:
    """Decisions, the damage to minimize, and costs under limits.

    Attributes:
        decisions: Number of options of every decision.
        damage: Tables whose sum is minimized.
        costs: For each cost, its bounds; a bound is a sum of tables, and the cost is the largest of
            its bounds. Most costs have one bound; peak memory has one per point in time.
        limits: The largest allowed value of some of the costs.
    """

    decisions: Mapping[Hashable, int]
    damage: Sequence[Table]
    costs: Mapping[str, Sequence[Sequence[Table]]] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    def damage_of(self, options: Mapping[Hashable, int]) -> float:
        """The damage of a choice."""
        return sum(table.at(options) for table in self.damage)

    def costs_of(self, options: Mapping[Hashable, int]) -> dict[str, float]:
        """Every cost of a choice."""
        return {name: max(sum(table.at(options) for table in bound) for bound in bounds)
                for name, bounds in self.costs.items()}


@final
@dataclass(frozen=True)
class Solution:
    """A choice of one option per decision.

    Attributes:
        options: Index of the chosen option, by decision.
        damage: Its damage.
        costs: Its costs.
        gap: Relative distance from the least damage that the search could not rule out.
    """

    options: Mapping[Hashable, int]
    damage: float
    costs: Mapping[str, float]
    gap: float


def solve_choices(problem: ChoiceProblem, *, count: int = 1, distance: int = 1,
                  distinct: Sequence[Hashable] = (),
                  seconds: float = 30.0) -> Iterator[Solution]:
    """Find the choices with the least damage within the limits, the best first.

    Each is searched when it is asked for.

    Args:
        problem: The problem.
        count: Number of different answers.
        distance: In how many of the decisions in ``distinct`` two answers differ at least.
        distinct: The decisions that must differ; empty for all of them.
        seconds: Longest time for each answer.

    Yields:
        Up to ``count`` solutions; none if no choice meets the limits.

    Example:
        >>> problem = ChoiceProblem(
        ...     {"in": 2, "out": 2}, [Table(("in",), np.array([3.0, 0.0])),
        ...                           Table(("out",), np.array([1.0, 0.0]))],
        ...     {"size": [[Table(("in", "out"), np.array([[1.0, 2.0], [2.0, 4.0]]))]]},
        ...     {"size": 2.0})
        >>> [(found.options, found.damage) for found in solve_choices(problem, count=2)]
        [({'in': 1, 'out': 0}, 1.0), ({'in': 0, 'out': 1}, 3.0)]
    """
    model = _Model(problem, problem.damage)
    for name, limit in problem.limits.items():
        model.limit(name, limit)
    found = 0
    while found < count:
        solution = model.solve(seconds)
        if solution is None:
            return
        excess = {name: solution.costs[name] - limit for name, limit in problem.limits.items()
                  if solution.costs[name] > limit * (1 + _ROUNDING)}
        if not excess:
            found += 1
            yield solution
        model.exclude(solution.options, distinct or tuple(problem.decisions),
                      1 if excess else distance)


def find_smallest(problem: ChoiceProblem, cost: str) -> Solution | None:
    """The choice with the smallest value of one cost, without regard to limits and damage.

    Combinations that the damage forbids stay forbidden. Among equal ones any may be returned.
    """
    forbidden = _forbidden_tables(problem)
    bounds = problem.costs[cost]
    if len(bounds) == 1:
        return _Model(problem, [*forbidden, *bounds[0]]).solve()
    model = _Model(problem, forbidden)
    model.minimize_ratio({cost: problem.costs_of(dict.fromkeys(problem.decisions, 0))[cost]})
    return model.solve()


def find_nearest_miss(problem: ChoiceProblem) -> Solution | None:
    """The choice whose largest ratio of a cost to its limit is smallest.

    It is what to show if `solve_choices` finds nothing. A limit of 0 counts as 1.
    """
    model = _Model(problem, _forbidden_tables(problem))
    model.minimize_ratio(problem.limits)
    return model.solve()


@final
class _Model:
    """The integer program of a problem, to which answers can be added that are excluded."""

    def __init__(self, problem: ChoiceProblem, objective: Sequence[Table]) -> None:
        self._problem = problem
        self._program = MixedIntegerProgram()
        self._joint: dict[tuple[Hashable, ...], NDArray[np.int64]] = {}
        rewards = _collect(objective)
        self._options = {
            name: self._program.variables(-rewards.get((name,), np.zeros(count)), integer=True)
            for name, count in problem.decisions.items()}
        for name, variables in self._options.items():
            self._program.row(variables, np.ones(len(variables)), low=1.0, high=1.0)
            self._forbid(variables, rewards.get((name,)))
        self._rewards = rewards
        for decisions in rewards:
            self._variables(decisions)

    def limit(self, name: str, limit: float, ratio: NDArray[np.int64] | None = None) -> None:
        """Limit a cost, or its ratio to the limit by a variable times the largest ratio."""
        unit = abs(limit) or 1.0
        for bound in self._problem.costs[name]:
            indices, values = [], []
            for table in bound:
                indices.append(self._variables(table.decisions))
                values.append(table.values.ravel() / unit)
            if ratio is not None:
                indices.append(ratio)
                values.append(np.array([-_LARGEST_RATIO]))
            self._program.row(np.concatenate(indices), np.concatenate(values),
                              high=limit / unit if ratio is None else 0.0)

    def minimize_ratio(self, limits: Mapping[str, float]) -> None:
        """Make the largest ratio of a cost to its limit the objective."""
        ratio = self._program.variables(np.array([-_LARGEST_DAMAGE]), integer=False)
        for name, limit in limits.items():
            self.limit(name, limit, ratio)

    def exclude(self, options: Mapping[Hashable, int], decisions: Sequence[Hashable],
                distance: int) -> None:
        """Exclude answers that differ from ``options`` in fewer than ``distance`` decisions."""
        chosen = np.array([self._options[name][options[name]] for name in decisions])
        self._program.row(chosen, np.ones(len(chosen)),
                          high=float(len(chosen) - min(distance, len(chosen))))

    def solve(self, seconds: float = 30.0) -> Solution | None:
        """Solve, and compute damage and costs of the answer exactly."""
        found = self._program.solve(_GAP, seconds)
        if found is None:
            return None
        options = {name: int(found.x[variables].argmax())
                   for name, variables in self._options.items()}
        return Solution(options, self._problem.damage_of(options),
                        self._problem.costs_of(options), found.gap)

    def _variables(self, decisions: tuple[Hashable, ...]) -> NDArray[np.int64]:
        """The variables of the combinations of decisions, in the order of a table's entries."""
        if len(decisions) == 1:
            return self._options[decisions[0]]
        if decisions not in self._joint:
            self._joint[decisions] = self._add_joint(decisions)
        return self._joint[decisions]

    def _add_joint(self, decisions: tuple[Hashable, ...]) -> NDArray[np.int64]:
        sizes = tuple(self._problem.decisions[name] for name in decisions)
        damage = self._rewards.get(decisions, np.zeros(sizes))
        finite = np.where(np.isfinite(damage), damage, 0.0)
        variables = self._program.variables(-finite.ravel(), integer=False)
        self._forbid(variables, damage.ravel())
        places = variables.reshape(sizes)
        for axis, name in enumerate(decisions):
            for option, single in enumerate(self._options[name].tolist()):
                joint = places.take(option, axis=axis).ravel()
                self._program.row(np.append(joint, single), np.append(np.ones(len(joint)), -1.0),
                                  low=0.0, high=0.0)
        return variables

    def _forbid(self, variables: NDArray[np.int64], damage: NDArray[np.float64] | None) -> None:
        if damage is not None and (forbidden := variables[np.isinf(damage)]).size:
            self._program.row(forbidden, np.ones(len(forbidden)), high=0.0)


def _forbidden_tables(problem: ChoiceProblem) -> list[Table]:
    """The tables of damages with nothing left but what they forbid."""
    return [Table(table.decisions, np.where(np.isinf(table.values), np.inf, 0.0))
            for table in problem.damage]


def _collect(objective: Sequence[Table]) -> dict[tuple[Hashable, ...], NDArray[np.float64]]:
    """The objective, one array per set of decisions, scaled for the solver."""
    total: dict[tuple[Hashable, ...], NDArray[np.float64]] = {}
    for table in objective:
        total[table.decisions] = total.get(table.decisions, 0.0) + table.values
    largest = max((float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
                   for values in total.values()), default=0.0) or 1.0
    return {decisions: _LARGEST_DAMAGE * (values / largest)
            for decisions, values in total.items()}
