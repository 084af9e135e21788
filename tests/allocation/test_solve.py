"""Solved allocations against trying every combination of widths."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.allocation import CostModel, LatencyTable, LayerTimes
from edgewright.allocation._cost_model import Bound
from edgewright.allocation._milp import MixedInteger
from edgewright.allocation._solve import Problem, solve_widths
from edgewright.channels import GroupWidths, LegalWidths, Polynomial, find_groups, widths_of
from edgewright.program import Program


class Concatenated(nn.Module):
    """Layers that read one group, a sum of two, and the group they write."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 8, 3, padding=1)
        self.c = nn.Conv2d(14, 5, 1)
        self.d = nn.Conv2d(5, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        c = self.c(torch.cat([a, self.b(a).relu()], 1))
        return self.head((c + self.d(c.relu())).mean((2, 3)))


@pytest.fixture(scope="module")
def concatenated() -> Any:
    return Program.capture(Concatenated(), torch.zeros(1, 2, 4, 4))


def problem_of(program: Program, target: Any, ratio: Any, seed: int, round_to: int = 1,
               table: Any = None) -> Any:
    groups = find_groups(program)
    rng = np.random.default_rng(seed)
    scores = {channel: float(rng.lognormal()) for group in groups.groups
              for channel in group.channels}
    cost = CostModel(program, groups, target, table)
    return Problem(widths_of(groups, LegalWidths(round_to), scores), cost, cost.full * (1 - ratio))


def start_of(problem: Any) -> Any:
    return np.array([group.legal[0] for group in problem.groups])


def brute_force(problem: Any) -> Any:
    """The best worth of all combinations within the limit."""
    combinations = (np.array(widths) for widths in product(
        *(group.legal.tolist() for group in problem.groups)))
    return max(problem.worth(widths) for widths in combinations
               if problem.cost.at(widths) <= problem.goal)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("target", ["macs", "params", "channels", "ram"])
def test_no_combination_of_widths_is_worth_more(concatenated: Any, target: str, ratio: float,
                                                seed: int) -> None:
    problem = problem_of(concatenated, target, min(ratio, 0.6) if target == "ram" else ratio, seed)
    found = solve_widths(problem, start_of(problem))
    assert problem.cost.at(found) <= problem.goal
    assert problem.worth(found) >= brute_force(problem) * (1 - 2e-4)


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_residual_branches_and_steps(residual: Program, ratio: float) -> None:
    for round_to in (1, 4):
        problem = problem_of(residual, "macs", ratio, 5, round_to)
        found = solve_widths(problem, start_of(problem))
        assert problem.cost.at(found) <= problem.goal
        assert problem.worth(found) >= brute_force(problem) * (1 - 2e-4)
        for width, group in zip(found, problem.groups, strict=True):
            assert width in group.legal


def stairs(inputs: Any, outputs: Any) -> Any:
    """A runtime that computes four outputs at a time, and as many inputs as there are."""
    sizes = tuple(range(1, 15))
    rows = tuple(tuple(float(a * -(-b // 4) + 3) for b in sizes) for a in sizes)
    return LayerTimes(sizes, sizes, rows)


@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_latency_in_stairs_is_solved_as_if_by_trying_all(concatenated: Any, ratio: float) -> None:
    table = LatencyTable("a clock", {f"{name}.weight": stairs(14, 14) for name in "abc"})
    problem = problem_of(concatenated, "latency", ratio, 2, table=table)
    found = solve_widths(problem, start_of(problem))
    assert problem.cost.at(found) <= problem.goal
    assert problem.worth(found) >= brute_force(problem) * 0.98


def test_a_latency_that_no_line_fits_holds_the_limit(concatenated: Any) -> None:
    """Where a layer reads the group it writes and others, a surface is fitted and then checked."""
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 8)
            self.b = nn.Linear(3, 9)
            self.c = nn.Linear(17, 8)
            self.d = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            a = self.a(x)
            return self.d(a + self.c(torch.cat([a, self.b(x)], 1)))

    program = Program.capture(Shared(), torch.zeros(1, 3))
    sizes = tuple(range(1, 18))
    curved = LayerTimes(sizes, sizes, tuple(tuple(float(a * b) ** 0.8 for b in sizes)
                                            for a in sizes))
    problem = problem_of(program, "latency", 0.4, 1, table=LatencyTable("", {"c.weight": curved}))
    found = solve_widths(problem, start_of(problem))
    assert problem.cost.at(found) <= problem.goal
    assert problem.worth(found) >= 0.9 * brute_force(problem)


def test_many_widths_are_refined_to_the_finest() -> None:
    program = Program.capture(nn.Sequential(nn.Linear(4, 90), nn.ReLU(), nn.Linear(90, 60),
                                            nn.ReLU(), nn.Linear(60, 3)), torch.zeros(1, 4))
    problem = problem_of(program, "macs", 0.5, 7)
    found = solve_widths(problem, start_of(problem))
    assert problem.cost.at(found) <= problem.goal
    assert problem.worth(found) >= brute_force(problem) * (1 - 1e-3)


class Volume:
    """Three widths multiplied, as heads times their width times an embedding."""

    def __init__(self) -> None:
        a, b, c = map(Polynomial.width, range(3))
        self.bounds = (Bound(a * b * c * 2 + a + 5),)
        self.at = self.bounds[0].polynomial.at


def test_a_product_of_three_groups_holds_the_limit_and_comes_near_the_best() -> None:
    rng = np.random.default_rng(0)
    groups = [GroupWidths(np.arange(1, count + 1), tuple(range(count)), np.sort(rng.random(count)))
              for count in (4, 9, 12)]
    problem = Problem(groups, Volume(), 400.0)  # type: ignore[arg-type]
    start = np.array([2, 5, 6])
    found = solve_widths(problem, start)
    assert problem.cost.at(found) <= 400.0
    assert problem.worth(found) >= max(problem.worth(start), 0.93 * brute_force(problem))


def test_where_nothing_is_within_the_limit_the_start_is_returned(concatenated: Any) -> None:
    problem = problem_of(concatenated, "macs", 0.999, 0)
    assert solve_widths(problem, start_of(problem)).tolist() == start_of(problem).tolist()


def test_an_integer_program_without_a_solution_gives_none() -> None:
    program = MixedInteger()
    x = program.variables(np.array([1.0]), integer=True)
    program.row(x, np.array([1.0]), low=2.0)
    assert program.solve() is None
