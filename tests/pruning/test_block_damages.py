"""Damages of blocks and pairs, against removing, fitting and measuring them one by one."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from tests.pruning.test_refit import make_network

from edgewright.channels import find_branches, remove_branches
from edgewright.goals import Classification, Goal
from edgewright.program import Program
from edgewright.pruning import measure_block_damages
from edgewright.pruning._block_damages import find_adjacent
from edgewright.task import TensorSplit
from edgewright.training import measure_loss

GOAL = Classification()


@pytest.fixture(scope="module")
def network() -> tuple[Program, TensorSplit]:
    program, split = make_network()
    x = split.example(len(split))[0]
    return program, TensorSplit((x,), program.run(x).argmax(dim=1))


def rise(program: Program, split: TensorSplit, *places: int) -> float:
    branches = [find_branches(program)[place] for place in places]
    return (measure_loss(remove_branches(program, branches).module(), split, GOAL)
            - measure_loss(program.module(), split, GOAL))


def test_without_a_fit_it_is_the_measured_rise(network: tuple[Program, TensorSplit]) -> None:
    program, split = network
    found = measure_block_damages(program, find_branches(program), split, GOAL, layers=0)
    assert list(found.alone) == ["1", "2", "3"]
    for place, value in enumerate(found.alone.values()):
        assert value == pytest.approx(max(0.0, rise(program, split, place)), abs=1e-5)
    assert list(found.pairs) == [("1", "2"), ("2", "3")]
    for place, names in enumerate(found.pairs):
        together = rise(program, split, place, place + 1)
        alone = [found.alone[name] for name in names]
        assert found.pairs[names] == pytest.approx(max(together, *alone) - sum(alone), abs=1e-5)


def test_a_fit_reduces_the_damage(network: tuple[Program, TensorSplit]) -> None:
    program, split = network
    branches = find_branches(program)
    plain = measure_block_damages(program, branches, split, GOAL, layers=0)
    fitted = measure_block_damages(program, branches, split, GOAL)
    assert sum(fitted.alone.values()) < sum(plain.alone.values())


def test_it_is_deterministic_and_changes_nothing(network: tuple[Program, TensorSplit]) -> None:
    program, split = network
    branches = find_branches(program)
    before = {name: tensor.clone() for name, tensor in program.state_dict().items()}
    first, second = (measure_block_damages(program, branches, split, GOAL) for _ in range(2))
    assert first == second
    assert all(torch.equal(before[name], tensor)
               for name, tensor in program.state_dict().items())


def test_a_loss_that_becomes_nan_is_infinite(network: tuple[Program, TensorSplit]) -> None:
    program, split = network
    losses = iter([1.0, math.nan, 3.0, 0.5, 4.0, 5.0])  # whole, three blocks, two pairs
    goal = cast(Goal, SimpleNamespace(loss=lambda *_: next(losses)))
    found = measure_block_damages(program, find_branches(program), split, goal)
    assert list(found.alone.values()) == [math.inf, 2.0, 0.0]
    assert found.pairs == {("2", "3"): 2.0}


def test_blocks_of_different_stages_are_not_adjacent() -> None:
    class Residual(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + super().forward(x).relu()).relu()

    model = torch.nn.Sequential(Residual(4, 4), Residual(4, 4), torch.nn.Linear(4, 6),
                                Residual(6, 6), Residual(6, 6))
    program = Program.capture(model, torch.zeros(2, 4))
    assert [(first.name, second.name)
            for first, second in find_adjacent(program, find_branches(program))] == [
                ("0", "1"), ("3", "4")]
