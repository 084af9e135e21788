"""The integer program of choices against enumeration of every choice."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pytest
from tests.allocation.enumeration import enumerate_choices

from edgewright.allocation import (
    ChoiceProblem,
    Table,
    find_nearest_miss,
    find_smallest,
    solve_choices,
)


def random_problem(seed: int, *, forbids: bool = False) -> ChoiceProblem:
    """Five decisions with tables of one to three of them, two costs, one with two bounds."""
    rng = np.random.default_rng(seed)
    decisions: dict[Hashable, int] = {f"d{index}": int(rng.integers(2, 4)) for index in range(5)}

    def table(count: int) -> Table:
        names = tuple(rng.permutation([str(name) for name in decisions])[:count].tolist())
        return Table(names, 10 * rng.random([decisions[name] for name in names]))

    damage = [table(count) for count in (1, 1, 2, 2, 3)]
    if forbids:
        damage[3].values[rng.random(damage[3].values.shape) < 0.3] = np.inf
    costs = {"a": [[table(1), table(3), table(2)]],
             "b": [[table(2), table(2)], [table(2), table(1)]]}
    return ChoiceProblem(decisions, damage, costs, {"a": 3 + 15 * rng.random(),
                                                    "b": 3 + 10 * rng.random()})


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_the_best_ones_in_order(seed: int) -> None:
    problem = random_problem(seed, forbids=seed % 2 == 0)
    reference = enumerate_choices(problem)[:3]
    found = list(solve_choices(problem, count=3))
    assert len(found) == len(reference)
    assert [solution.damage for solution in found] == pytest.approx(
        [solution.damage for solution in reference], rel=2e-3, abs=2e-3)
    for solution in found:
        assert all(solution.costs[name] <= limit * (1 + 1e-9)
                   for name, limit in problem.limits.items())
        assert np.isfinite(solution.damage)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cost", ["a", "b"])
def test_the_smallest_of_each_cost(seed: int, cost: str) -> None:
    problem = random_problem(seed)
    free = ChoiceProblem(problem.decisions, problem.damage, problem.costs)
    found = find_smallest(problem, cost)
    assert found is not None
    assert found.costs[cost] == pytest.approx(
        min(solution.costs[cost] for solution in enumerate_choices(free)), rel=2e-3)


@pytest.mark.parametrize("seed", range(6))
def test_the_nearest_miss_has_the_smallest_largest_ratio(seed: int) -> None:
    problem = random_problem(seed)
    tight = ChoiceProblem(problem.decisions, problem.damage, problem.costs,
                          {"a": 0.5, "b": 1.0})
    assert list(solve_choices(tight)) == []
    found = find_nearest_miss(tight)
    assert found is not None

    def ratio(costs: dict[str, float]) -> float:
        return max(costs[name] / limit for name, limit in tight.limits.items())

    free = ChoiceProblem(problem.decisions, problem.damage, problem.costs)
    assert ratio(dict(found.costs)) == pytest.approx(
        min(ratio(dict(solution.costs)) for solution in enumerate_choices(free)), rel=3e-3)


def test_answers_differ_in_as_many_decisions_as_asked() -> None:
    problem = ChoiceProblem(dict.fromkeys("abcd", 2),
                            [Table((name,), np.array([0.0, 1.0])) for name in "abcd"])
    first, second = solve_choices(problem, count=2, distance=2, distinct="abc")
    assert first.damage == 0.0
    assert sum(second.options[name] for name in "abc") == 2
    assert second.options["d"] == 0


def test_more_answers_than_there_are() -> None:
    problem = ChoiceProblem({"only": 2}, [Table(("only",), np.array([0.0, 1.0]))])
    assert [solution.damage for solution in solve_choices(problem, count=5)] == [0.0, 1.0]
