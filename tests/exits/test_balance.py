"""Gradients of exits in equilibrium: the mean of the exits to come, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewright.exits import EarlyExits, JointTraining, add_exits
from edgewright.exits._balance import SummedExitLoss, balance_gradients, scale_gradient
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.task import Batch, Task
from edgewright.training import GoalLoss, Training

LAYERS = (0, 2, 4)  # the body's, each with an exit behind it


@pytest.fixture(scope="module")
def samples() -> tuple[Any, ...]:
    torch.manual_seed(1)
    return torch.randn(12, 4), torch.arange(12) % 3


@pytest.fixture(scope="module")
def staged(samples: Any) -> Any:
    torch.manual_seed(0)
    x, y = samples
    body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8),
                         nn.ReLU(), nn.Linear(8, 3))
    return add_exits(Program.capture(body, x[:2]), Task((x, y), (x + 1, y), (x[:2], y[:2])),
                     EarlyExits(places=3, training=None))


def gradients(program: Program, samples: Any, weigh: Any) -> Any:
    """Of every parameter, for a loss on the outputs."""
    x, y = samples
    module = program.module(train=True)
    weigh(module(x), y).backward()
    return {name: value.grad for name, value in module.named_parameters()}


def balanced_gradients(staged: Any, samples: Any) -> Any:
    loss = SummedExitLoss(GoalLoss(Classification()))
    return gradients(balance_gradients(staged), samples,
                     lambda outputs, y: loss.loss(outputs, Batch((), y, torch.arange(len(y)))))


def test_each_part_learns_from_the_mean_of_the_following_exits(staged: Any, samples: Any) -> None:
    found = balanced_gradients(staged, samples)
    each = [gradients(staged, samples, lambda outputs, y, i=i: F.cross_entropy(outputs[i], y))
            for i in range(4)]
    for index, layer in enumerate((*LAYERS, 6)):
        to_come = [grads[f"{layer}.weight"] for grads in each[index:]]
        torch.testing.assert_close(found[f"{layer}.weight"], sum(to_come) / len(to_come))
    for index in range(3):
        torch.testing.assert_close(found[f"exits.{index}.weight"],
                                   each[index][f"exits.{index}.weight"])


def test_balancing_keeps_outputs_and_names(staged: Any, samples: Any) -> None:
    balanced = balance_gradients(staged)
    assert all(map(torch.equal, balanced.run(samples[0]), staged.run(samples[0])))
    assert balanced.state_dict().keys() == staged.state_dict().keys()
    assert not any(node.target is scale_gradient for node in staged.graph.nodes)
    assert sum(node.target is scale_gradient for node in balanced.graph.nodes) == 6


def test_the_loss_is_the_sum_over_the_exits_and_has_its_own_name() -> None:
    objective = SummedExitLoss(GoalLoss(Classification(), 0.1))
    batch = Batch((), torch.tensor([0, 1]), torch.arange(2))
    outputs = (torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 3))
    each = [GoalLoss(Classification(), 0.1).loss((logits,), batch) for logits in outputs]
    torch.testing.assert_close(objective.loss(outputs, batch), sum(each))
    assert objective.name == f"Equilibrium({GoalLoss(Classification(), 0.1).name})"


@pytest.mark.parametrize("balance", [True, False])
def test_a_trained_program_contains_no_gradient_scaling(balance: bool, samples: Any) -> None:
    x, y = samples
    body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    config = EarlyExits(places=1, training=JointTraining(
        gradient_equilibrium=balance, settings=Training(
            epochs=2, batch_size=4, lr=0.1, augment=False, compute="cpu")))
    program = Program.capture(body, x[:2])
    trained = add_exits(program, Task((x, y), (x + 1, y), (x[:2], y[:2])), config)
    assert not any(node.target is scale_gradient for node in trained.graph.nodes)
    assert not torch.equal(trained.state_dict()["0.weight"], program.state_dict()["0.weight"])
    assert set(trained.state_dict()) - set(program.state_dict()) == {
        "exits.0.weight", "exits.0.bias"}
