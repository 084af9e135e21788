from __future__ import annotations

from typing import Any

import pytest
import torch

from edgewright.distill import (
    LOGIT_LOSSES,
    Distillation,
    DistillationLoss,
    SelfDistillationLoss,
    fit,
    make_objective,
)
from edgewright.exits import EarlyExits, add_exits
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.task import Batch, Task
from edgewright.training import (
    ConstrainedObjective,
    GoalLoss,
    StepHook,
    Training,
    count_stored_views,
    evaluate_module,
)

TARGETS = torch.tensor([0, 3, 1, 2, 2])
BATCH = Batch((), TARGETS, torch.arange(5))
LABELS = GoalLoss(Classification())


@pytest.mark.parametrize("logits", LOGIT_LOSSES)
def test_the_last_exit_teaches_the_earlier_ones(logits: Any) -> None:
    settings = Distillation(self_weight=0.3, logits=logits)
    outputs = tuple(torch.randn(3, 5, 4))
    found = SelfDistillationLoss(GoalLoss(Classification(), 0.1), settings).loss(outputs, BATCH)
    told = sum(float(LOGIT_LOSSES[logits](early, outputs[-1], TARGETS, settings))
               for early in outputs[:-1]) / 2
    want = float(GoalLoss(Classification(), 0.1).loss(outputs, BATCH)) + 0.3 * told
    assert float(found) == pytest.approx(want, rel=1e-5)


def test_the_last_exit_gets_no_gradient_from_it() -> None:
    outputs = [torch.randn(5, 4, requires_grad=True) for _ in range(2)]
    alone, both = (torch.autograd.grad(objective.loss(tuple(outputs), BATCH), outputs)
                   for objective in (LABELS, SelfDistillationLoss(
                       LABELS, Distillation(self_weight=5.0))))
    assert torch.equal(alone[1], both[1])
    assert not torch.equal(alone[0], both[0])


def test_it_is_combined_with_a_teacher_and_its_features(saying: Any) -> None:
    settings = Distillation(features="attention", self_weight=0.5)
    feature, early, last = torch.randn(5, 3, 2, 2), torch.randn(5, 4), torch.randn(5, 4)
    inner = DistillationLoss(saying(torch.randn(5, 4), torch.randn(5, 3, 2, 2)), settings, features=1)
    found = SelfDistillationLoss(inner, settings, features=1).loss((feature, early, last), BATCH)
    told = LOGIT_LOSSES["hinton"](early, last, TARGETS, settings)
    torch.testing.assert_close(found, inner.loss((feature, early, last), BATCH) + 0.5 * told)


def test_with_a_single_exit_there_is_nothing_to_add() -> None:
    logits = (torch.randn(5, 4),)
    objective = SelfDistillationLoss(LABELS, Distillation(self_weight=5.0))
    assert torch.equal(objective.loss(logits, BATCH), LABELS.loss(logits, BATCH))


def test_everything_else_is_delegated_to_the_inner_objective(saying: Any) -> None:
    moved: list[torch.device] = []
    hook, teacher = StepHook(), saying(torch.zeros(5, 4))
    teacher.to, teacher.views = moved.append, 3
    inner = ConstrainedObjective(DistillationLoss(teacher), (hook,))
    objective = SelfDistillationLoss(inner, Distillation(self_weight=0.5))
    objective.to(torch.device("meta"))
    assert moved == [torch.device("meta")]
    assert objective.hooks == (hook,)
    assert count_stored_views(objective) == 3
    names = {objective.name, SelfDistillationLoss(inner, Distillation(self_weight=0.6)).name,
             SelfDistillationLoss(LABELS, Distillation(self_weight=0.5)).name}
    assert len(names) == 3
    assert all(inner.name in name for name in names if "saying" in name)


def test_early_exits_learn_to_agree_with_the_last_one(pyramid: Program,
                                                      quadrant_task: Task) -> None:
    staged = add_exits(pyramid, quadrant_task, EarlyExits(places=2, training=None))
    training = Training(epochs=3, batch_size=32, lr=0.05, augment=False, compute="cpu")
    settings = Distillation(self_weight=1.0)
    assert make_objective(None, quadrant_task.goal, settings).name.startswith(
        f"SelfDistillationLoss({LABELS.name}, ")
    trained = fit(staged, quadrant_task, training, distillation=settings)
    early, later, last = (score.value for score in evaluate_module(
        trained.module(), quadrant_task.val, quadrant_task.goal))
    assert min(early, later, last) > 0.8
