"""Gauss-Newton scores, against the full Jacobian of the logits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.programs import Mixed
from torch import nn
from torch.autograd.functional import jacobian

from edgewright.channels import find_groups
from edgewright.program import Program
from edgewright.pruning.criteria import ScoringContext
from edgewright.pruning.criteria._gauss_newton import gauss_newton
from edgewright.task import Task, TensorSplit


def test_score_is_the_expected_squared_jacobian_of_the_logits(mixed: Mixed, mixed_program: Program,
                                                              mixed_task: Task,
                                                              scores_of: Callable[..., dict[str, list[float]]]) -> Any:
    x = next(mixed_task.train.batches(80)).inputs[0].double()
    model = copy.deepcopy(mixed).double()
    maps = model.deep(model.norm(model.first(x)).relu()).relu().detach()

    def logits(gate: Any) -> Any:
        found = model.last(model.head((maps * gate[:, None, None]).flatten(1)).relu())
        return found - found.mean(dim=1, keepdim=True)

    slopes = jacobian(logits, torch.ones(5, dtype=torch.float64))  # (80, 3, 5)
    want = (slopes.square().sum(dim=(0, 1)) / (2 * 80)).tolist()
    found = np.mean([scores_of(mixed_program, mixed_task, criterion="gauss_newton", seed=seed)
                     ["first.weight"] for seed in range(60)], axis=0)
    assert found == pytest.approx(want, rel=0.06)


def test_labels_do_not_change_the_scores(mixed_program: Program, mixed_task: Task,
                                         scores_of: Callable[..., dict[str, list[float]]]) -> None:
    other = copy.copy(mixed_task)
    other.train = TensorSplit(
        next(mixed_task.train.batches(80)).inputs, torch.zeros(80, dtype=torch.long), name="train")
    for criterion, are_equal in (("gauss_newton", True), ("fisher", False)):
        found, want = (scores_of(mixed_program, task, criterion=criterion)
                       for task in (other, mixed_task))
        assert (found == want) == are_equal


def test_changes_of_the_mean_logit_are_ignored(mixed_task: Task,
                                               scores_of: Callable[..., dict[str, list[float]]]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.Linear(6, 3))
    with torch.no_grad():
        model.get_parameter("2.weight")[:, 2] = 5.0  # changes all logits equally
    found = scores_of(Program.capture(model, torch.zeros(1, 2, 4, 4)), mixed_task,
                      criterion="gauss_newton")["1.weight"]
    assert found[2] == pytest.approx(0, abs=1e-9)
    assert min(found[:2] + found[3:]) > 1e-6


@pytest.mark.parametrize("end", [nn.Identity(), nn.Sigmoid(), nn.Flatten(0)])
def test_single_output_value_is_not_centered(end: Any) -> Any:
    """Finite differences of a gate of 1 +- h on each unit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1), end)
    with torch.no_grad():
        model.get_parameter("2.weight")[0, 4] = 0
    x = torch.randn(64, 4)
    task = Task((x, torch.zeros(64)), test=(x[:8], torch.zeros(8)), goal="regression")
    program = Program.capture(model, x[:2])
    context = ScoringContext(program, find_groups(program), "gauss_newton", task.train, 0,
                             task.goal)
    found = gauss_newton(context)[context.spans[0]].tolist()
    samples = next(task.train.batches(len(task.train))).inputs[0].double()
    precise, step = copy.deepcopy(model).double(), 1e-5
    units = precise[1](precise[0](samples)).detach()

    def gated(unit: Any, gate: Any) -> Any:
        factor = torch.ones(6, dtype=torch.float64)
        factor[unit] = gate
        return precise[3](precise[2](units * factor)).detach().reshape(-1)

    slopes = [(gated(unit, 1 + step) - gated(unit, 1 - step)) / (2 * step) for unit in range(6)]
    assert found == pytest.approx([float(slope.square().mean()) / 2 for slope in slopes], rel=1e-4)
    assert found[4] == 0
    assert min(found[:4] + found[5:]) > 0
