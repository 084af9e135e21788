from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F

from edgewright.distill import (
    FEATURE_LOSSES,
    LOGIT_LOSSES,
    Distillation,
    DistillationLoss,
    ModuleTeacher,
)
from edgewright.errors import ModelError, UsageError
from edgewright.goals import Categorical, Classification, CustomGoal
from edgewright.task import Batch, Task
from edgewright.training import GoalLoss, Training, train

TARGETS = torch.tensor([0, 3, 1, 2, 2])


def labelled(targets: Any) -> Any:
    return Batch((), targets, torch.arange(len(targets)))


@pytest.mark.parametrize("logits", LOGIT_LOSSES)
@pytest.mark.parametrize("exits", [1, 3])
def test_the_loss_is_mixed_with_the_labels_and_averaged_over_the_exits(saying: Any, logits: Any,
                                                                       exits: int) -> None:
    outputs, taught = tuple(torch.randn(exits, 5, 4)), torch.randn(5, 4)
    settings = Distillation(logits=logits, alpha=0.3, temperature=2.0)
    found = DistillationLoss(saying(taught), settings).loss(outputs, labelled(TARGETS))
    want = sum(0.3 * float(LOGIT_LOSSES[logits](one, taught, TARGETS, settings))
               + 0.7 * float(F.cross_entropy(one, TARGETS)) for one in outputs) / exits
    assert float(found) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("weight", [None, 0.5])
@pytest.mark.parametrize("features", FEATURE_LOSSES)
def test_features_come_first_and_are_averaged_over_the_pairs(saying: Any, features: Any,
                                                             weight: float | None) -> None:
    mine, theirs = torch.randn(2, 5, 3, 2, 2), torch.randn(2, 5, 3, 2, 2)
    logits, taught = torch.randn(5, 4), torch.randn(5, 4)
    settings = Distillation(features=features, feature_weight=weight)
    found = DistillationLoss(saying(taught, *theirs), settings, features=2).loss(
        (*mine, logits), labelled(TARGETS))
    plain = DistillationLoss(saying(taught), settings).loss((logits,), labelled(TARGETS))
    method = FEATURE_LOSSES[features]
    apart = sum(float(method.loss(*pair)) for pair in zip(mine, theirs, strict=True)) / 2
    want = float(plain) + (weight or method.weight) * apart
    assert float(found) == pytest.approx(want, rel=1e-4)


def test_the_labels_of_a_sequence_are_those_of_its_positions(saying: Any) -> None:
    logits, targets = torch.randn(2, 3, 4), torch.randint(0, 4, (2, 3))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets.flatten(0, -2) if targets.ndim == outputs.ndim else targets.flatten()
        return F.cross_entropy(outputs.flatten(0, -2), targets, label_smoothing=0.1)

    goal = CustomGoal(loss, {"mae": torchmetrics.MeanAbsoluteError()}, kinds={"": Categorical(-1)})
    objective = DistillationLoss(saying(logits), Distillation(alpha=0.25), goal=goal)
    want = 0.75 * F.cross_entropy(logits.reshape(6, 4), targets.flatten(), label_smoothing=0.1)
    torch.testing.assert_close(objective.loss((logits,), labelled(targets)), want)
    mixed = torch.rand(2, 3, 4).softmax(-1)
    want = 0.75 * F.cross_entropy(logits.reshape(6, 4), mixed.reshape(6, 4), label_smoothing=0.1)
    torch.testing.assert_close(objective.loss((logits,), labelled(mixed)), want)


def test_a_regression_learns_from_the_teacher_only(saying: Any) -> None:
    outputs, taught, targets = torch.randn(5, 2), torch.randn(5, 2), torch.randn(5, 7)
    settings = Distillation(logits="mse", alpha=1.0)
    found = DistillationLoss(saying(taught), settings).loss((outputs,), labelled(targets))
    torch.testing.assert_close(found, (outputs - taught).square().mean() / 2)


def test_label_smoothing_reaches_the_labels_share(saying: Any) -> None:
    outputs, targets = (torch.randn(4, 3),), torch.tensor([0, 1, 2, 0])
    objective = DistillationLoss(saying(torch.randn(4, 3)), Distillation(alpha=0.0),
                                 goal=Classification(label_smoothing=0.2))
    torch.testing.assert_close(objective.loss(outputs, labelled(targets)),
                               GoalLoss(Classification(), 0.2).loss(outputs, labelled(targets)))


def test_the_teacher_gets_no_gradient_and_stays_in_evaluation_mode() -> None:
    teacher = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    student, x = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    batch = Batch((x,), torch.tensor([0, 1]), torch.arange(2))
    DistillationLoss(ModuleTeacher(teacher)).loss((student,), batch).backward()
    assert not teacher.training
    assert teacher[0].weight.grad is None
    assert student.grad is not None


def test_the_teacher_sees_the_inputs_of_the_student() -> None:
    seen = []

    class Watching(nn.Linear):
        teaches: bool

        def forward(self, x: Tensor) -> Tensor:
            if self.training is not self.teaches:
                seen.append(x.clone())
            return super().forward(x)

    x, y = torch.randn(32, 4), torch.arange(32) % 2
    teacher, student = Watching(4, 2), Watching(4, 2)
    teacher.teaches, student.teaches = True, False
    train(student, Task((x, y), (x, y), (x[1:], y[1:])),
          Training(epochs=1, batch_size=16, compute="cpu"), DistillationLoss(ModuleTeacher(teacher)))
    _, *steps = seen  # at first the teacher is asked whether its outputs are like the student's
    assert len(steps) == 4  # two steps of both
    assert torch.equal(steps[0], steps[1])
    assert torch.equal(steps[2], steps[3])


def test_the_objective_moves_the_teacher_and_has_its_views(saying: Any) -> None:
    moved: list[torch.device] = []
    teacher = saying(torch.zeros(2, 3))
    teacher.views, teacher.to = 4, moved.append
    objective = DistillationLoss(teacher)
    objective.to(torch.device("meta"))
    assert moved == [torch.device("meta")]
    assert objective.views == 4


def test_the_name_includes_teacher_settings_and_goal(saying: Any) -> None:
    one, other = saying(torch.zeros(2, 3)), saying(torch.zeros(2, 3))
    other.name = "another"
    names = {DistillationLoss(one).name, DistillationLoss(other).name,
             DistillationLoss(one, goal=Classification(label_smoothing=0.1)).name,
             DistillationLoss(one, Distillation(temperature=2)).name,
             DistillationLoss(one, Distillation(features="hints"), features=1).name}
    assert len(names) == 5


def test_different_classes_raise(saying: Any) -> None:
    message = "the teacher's output has shape (2, 4), the student's (2, 3); they must have the same"
    with pytest.raises(ModelError, match=re.escape(message)):
        DistillationLoss(saying(torch.zeros(2, 4))).loss((torch.zeros(2, 3),),
                                                         labelled(torch.tensor([0, 1])))


def test_features_without_settings_or_teacher_features_raise(saying: Any) -> None:
    with pytest.raises(UsageError, match="there are 2 features to compare, but the settings have no "):
        DistillationLoss(saying(torch.zeros(2, 4)), features=2)
    objective = DistillationLoss(saying(torch.zeros(2, 4)), Distillation(features="hints"), features=1)
    with pytest.raises(ModelError, match="the student returns 1 features, the teacher 0; tap the"):
        objective.loss((torch.zeros(2, 3), torch.zeros(2, 4)), labelled(torch.tensor([0, 1])))
