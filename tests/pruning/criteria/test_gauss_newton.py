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
from edgewright.goals import Binary, Classification, Detection, Goal, MultiTask, Regression
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


class Heads(nn.Module):
    """A size in some unit and a class, of shared units."""

    def __init__(self, unit: float = 1.0, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.size = nn.Linear(4, 12), nn.Linear(12, 1)
        self.sort = nn.Linear(12, classes)
        with torch.no_grad():
            self.size.weight.mul_(unit)
            self.size.bias.mul_(unit)

    def forward(self, x: Any) -> Any:
        hidden = self.body(x).tanh()
        return {"size": self.size(hidden), "sort": self.sort(hidden)}


SAMPLES = torch.randn(64, 4, generator=torch.Generator().manual_seed(5))


def score(model: nn.Module, goal: Goal, targets: Any) -> Any:
    program = Program.capture(model, SAMPLES[:2])
    split = TensorSplit(SAMPLES, targets, name="train")
    return gauss_newton(ScoringContext(program, find_groups(program), "gauss_newton", split, 0, goal))


@pytest.mark.parametrize("states_scale", [True, False])
def test_the_unit_of_a_value_does_not_change_the_ranking(states_scale: bool) -> None:
    def scores(unit: float) -> Any:
        goal = MultiTask({"size": Regression(scale=0.7 * unit if states_scale else None),
                          "sort": Classification()})
        return score(Heads(unit), goal, torch.zeros(64))

    small, large = scores(1.0), scores(10.0)
    assert np.argsort(small).tolist() == np.argsort(large).tolist()
    np.testing.assert_allclose(small / small.max(), large / large.max(), rtol=1e-4)
    naive = [score(Heads(unit), MultiTask({"size": Regression(scale=1.0), "sort": Classification()}),
                   torch.zeros(64)) for unit in (1.0, 10.0)]
    assert np.argsort(naive[0]).tolist() != np.argsort(naive[1]).tolist()  # the unit would decide


def test_a_yes_or_no_question_counts_as_two_classes() -> None:
    """Beside the same value: one logit z, or the two logits (-z / 2, z / 2)."""
    one, two = Heads(classes=1), Heads(classes=2)
    with torch.no_grad():
        two.load_state_dict({**one.state_dict(), **{
            f"sort.{name}": torch.cat([-value / 2, value / 2])
            for name, value in one.sort.named_parameters()}})
    value = Regression(scale=0.5)
    found = [score(model, MultiTask({"size": value, "sort": sort}), torch.zeros(64))
             for model, sort in ((one, Binary()), (two, Classification()))]
    exact = [_exact_scores(model, count) for model, count in ((one, 1), (two, 2))]
    np.testing.assert_allclose(exact[0], exact[1], rtol=1e-5)
    for scores, expected in zip(found, exact, strict=True):  # one random sign vector per sample
        assert np.corrcoef(scores, expected)[0, 1] > 0.8


def _exact_scores(model: Heads, classes: int) -> Any:
    """With the full Jacobian, in the unit of each kind, up to a factor."""
    hidden = model.body(SAMPLES).tanh().detach()

    def outputs(gate: Any) -> Any:
        size, sort = model.size(hidden * gate) / 0.5, model.sort(hidden * gate)
        sort = sort / 2 if classes == 1 else (sort - sort.mean(1, keepdim=True)) / classes ** 0.5
        return torch.cat([size, sort], dim=1)

    return jacobian(outputs, torch.ones(12)).square().sum(dim=(0, 1)).numpy()


def test_boxes_do_not_drown_the_scores_of_a_detector() -> None:
    goal = Detection(strides=(8, 16))
    boxes, scores = goal.predictions({"boxes": 16 * torch.ones(2, 5, 4), "scores": torch.ones(2, 5, 3)})
    assert boxes.kind.unit(boxes.tensor) == pytest.approx(16 * 20 ** 0.5)
    assert scores.kind.unit(scores.tensor) == pytest.approx(2 * 15 ** 0.5)
