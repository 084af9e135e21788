"""Metrics of torchmetrics get probabilities, compared with what the logits mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from torch import Tensor
from torchmetrics import classification as tm

from edgewright.goals import (
    Bernoulli,
    Binary,
    Classification,
    CustomGoal,
    Goal,
    MultiLabel,
    MultiTask,
    Values,
)

GENERATOR = torch.Generator().manual_seed(0)
# Whole batches of logits between 0 and 1, which torchmetrics takes for probabilities.
LOGITS = torch.cat([torch.rand(40, 3, generator=GENERATOR) * 0.9 + 0.05,
                    4 * torch.randn(40, 3, generator=GENERATOR)])
ANSWERS = (torch.rand(80, 3, generator=GENERATOR) < torch.sigmoid(LOGITS)).long()
CLASSES = torch.randint(0, 3, (80,), generator=GENERATOR)


def measure(goal: Goal, logits: Any, targets: Tensor, size: int = 20) -> float:
    metric = goal.metrics[0].make()
    for one, other in zip(logits.split(size), targets.split(size), strict=True):
        metric.update(*goal.metric_inputs(one, other))
    found = float(metric.compute())
    metric.reset()
    return found


@pytest.mark.parametrize("size", [1, 20, 80])
def test_binary_metrics_equal_the_direct_computation(size: int) -> None:
    logits, answers = LOGITS[:, :1], ANSWERS[:, 0]
    found = measure(Binary(metric={"f1": tm.BinaryF1Score()}), logits, answers, size)
    assert found == pytest.approx(f1_score(answers, logits[:, 0] > 0), rel=1e-6)
    area = measure(Binary(metric={"auroc": tm.BinaryAUROC()}), logits, answers, size)
    assert area == pytest.approx(roc_auc_score(answers, logits[:, 0]), rel=1e-6)


def test_torchmetrics_alone_would_guess_otherwise() -> None:
    metric = tm.BinaryF1Score()
    for one, other in zip(LOGITS[:, 0].split(20), ANSWERS[:, 0].split(20), strict=True):
        metric.update(one, other)
    assert float(metric.compute()) != pytest.approx(f1_score(ANSWERS[:, 0], LOGITS[:, 0] > 0), rel=1e-3)


@pytest.mark.parametrize("size", [1, 80])
def test_labels_equal_the_direct_computation(size: int) -> None:
    goal = MultiLabel(metric={"f1": tm.MultilabelF1Score(3, average="macro")})
    expected = f1_score(ANSWERS, LOGITS > 0, average="macro")
    assert measure(goal, LOGITS, ANSWERS, size) == pytest.approx(expected, rel=1e-6)
    goal = MultiLabel(metric={"auroc": tm.MultilabelAUROC(3)})
    assert measure(goal, LOGITS, ANSWERS, size) == pytest.approx(
        roc_auc_score(ANSWERS, LOGITS, average="macro"), rel=1e-6)


@pytest.mark.parametrize("size", [1, 80])
def test_classes_equal_the_direct_computation(size: int) -> None:
    goal = Classification(metric={"auroc": tm.MulticlassAUROC(3)})
    logits = LOGITS / 4
    assert measure(goal, logits, CLASSES, size) == pytest.approx(
        roc_auc_score(CLASSES, logits.double().softmax(1), multi_class="ovr"), rel=1e-6)


def test_large_logits_make_no_ties() -> None:
    logits, answers = torch.tensor([[20.0], [21.0], [22.0], [23.0]]), torch.tensor([0, 1, 0, 1])
    goal = Binary(metric={"auroc": tm.BinaryAUROC()})
    assert measure(goal, logits, answers) == pytest.approx(0.75)


class OwnF1(tm.BinaryF1Score):
    """A subclass of the user's own."""


class HalfF1(torchmetrics.Metric):
    """A metric made of one of the family."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        self.whole = tm.BinaryF1Score()

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        self.whole.update(predictions, targets)

    def compute(self) -> Tensor:
        return self.whole.compute() / 2


class LogLoss:
    """A user's metric that takes logits, as the documentation says."""

    higher_is_better = False

    def __init__(self) -> None:
        self.logits, self.targets = [], []  # type: ignore[var-annotated]

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        self.logits.append(predictions)
        self.targets.append(targets)

    def compute(self) -> float:
        return float(log_loss(torch.cat(self.targets), torch.cat(self.logits).double().sigmoid()))

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]


def test_subclasses_and_compositions_are_of_the_family_and_others_get_logits() -> None:
    logits, answers = LOGITS[:, :1], ANSWERS[:, 0]
    expected = f1_score(answers, logits[:, 0] > 0)
    assert measure(Binary(metric={"f1": OwnF1()}), logits, answers) == pytest.approx(expected)
    assert measure(Binary(metric={"half": HalfF1()}), logits, answers) == pytest.approx(expected / 2)
    found = measure(Binary(metric={"loss": LogLoss()}), logits, answers)
    assert found == pytest.approx(log_loss(answers, logits[:, 0].double().sigmoid()))
    mean: Any = torchmetrics.MeanAbsoluteError()
    assert measure(Binary(metric={"mae": mean}), logits, answers) == pytest.approx(
        float((logits[:, 0] - answers).abs().mean()))


def test_the_parts_of_several_goals_and_custom_goals_convert_too() -> None:
    logits, answers = LOGITS[:, :1], ANSWERS[:, 0]
    expected = f1_score(answers, logits[:, 0] > 0)
    several = MultiTask({"a": Binary(metric={"f1": tm.BinaryF1Score()})})
    metric = several.metrics[0].make()
    metric.update(*several.metric_inputs({"a": logits}, {"a": answers}))
    assert float(metric.compute()) == pytest.approx(expected)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()

    custom = CustomGoal(loss, {"f1": tm.BinaryF1Score()}, kinds={"": Bernoulli()})
    assert measure(custom, logits[:, 0], answers) == pytest.approx(expected)


def test_numbers_without_probabilities_are_handed_on() -> None:
    assert Values().probabilities(torch.ones(2)) is None
