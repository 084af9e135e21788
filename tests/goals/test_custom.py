from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics
from torch import nn

from edgewright.errors import ModelError, UsageError
from edgewright.goals import Binary, Categorical, CustomGoal, Values, check_loss
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, train

MAE = {"mae": torchmetrics.MeanAbsoluteError()}
X, Y = torch.randn(12, 3), torch.randn(12, 3)


def error(outputs: Any, targets: Any) -> Any:
    return (outputs - targets).abs().mean()


def test_the_users_loss_and_metrics_are_used() -> None:
    goal = CustomGoal(error, MAE | {"mse": torchmetrics.MeanSquaredError()}, unit="years")
    assert float(goal.loss(X, Y)) == pytest.approx(float((X - Y).abs().mean()))
    assert [str(metric.spec.name) for metric in goal.metrics] == ["mae", "mse"]
    assert {(metric.spec.unit, metric.spec.higher_is_better) for metric in goal.metrics} == {
        ("years", False)}
    metric = goal.metrics[0].make()
    metric.update(*goal.metric_inputs(X, Y))
    assert float(metric.compute()) == pytest.approx(float((X - Y).abs().mean()))


def test_kinds_say_which_outputs_are_predictions() -> None:
    outputs = {"boxes": X, "classes": Y, "hidden": X}
    every = CustomGoal(error, MAE).predictions(outputs)
    assert [(found.name, found.kind) for found in every] == [
        ("boxes", Values()), ("classes", Values()), ("hidden", Values())]
    goal = CustomGoal(error, MAE, kinds={"classes": Categorical(), "boxes": Values(0.1)})
    found = goal.predictions(outputs)
    assert [(each.name, each.kind) for each in found] == [("classes", Categorical()),
                                                          ("boxes", Values(0.1))]
    assert found[0].tensor is Y
    with pytest.raises(ModelError, match="its output '0' is a NoneType; expected a tensor"):
        CustomGoal(error, MAE).predictions((None, X))
    with pytest.raises(ModelError, match="the goal custom expects the outputs classes, boxes, but "
                                         "the model returns a single tensor"):
        goal.predictions(X)


@pytest.mark.parametrize(("loss", "found"), [
    (0.5, "float"), (None, "NoneType"), (torch.zeros(3), r"\(3,\)"), ({"loss": X}, "dict"),
])
def test_a_loss_that_is_no_scalar_is_refused(loss: Any, found: str) -> None:
    with pytest.raises(UsageError, match=f"the loss returned {found}; expected a tensor with one "
                                         "number, the mean over the samples"):
        CustomGoal(lambda outputs, targets: loss, MAE).loss(X, Y)


def test_a_loss_of_one_element_is_a_scalar() -> None:
    assert CustomGoal(lambda outputs, targets: torch.ones(1, 1), MAE).loss(X, Y).shape == ()


def test_a_loss_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(UsageError, match="the loss is 'mse'; expected a function of outputs and"):
        CustomGoal("mse", MAE)  # type: ignore[arg-type]


BAD = {
    "nan": (lambda outputs, targets: outputs.sum() * torch.nan,
            "the loss of the goal custom is nan on the first training samples; expected a finite"),
    "infinite": (lambda outputs, targets: outputs.sum() / 0 + torch.inf, "custom is (inf|nan) on"),
    "no gradient": (lambda outputs, targets: torch.tensor(1.0),
                    "the loss of the goal custom has no gradient with respect to the model's "
                    "outputs; compute it from the outputs with torch operators"),
    "detached": (lambda outputs, targets: error(outputs.detach(), targets), "has no gradient"),
    "of nothing": (lambda outputs, targets: torch.zeros((), requires_grad=True), "has no gradient"),
    "raises": (lambda outputs, targets: outputs.logits,
               "the loss of the goal custom failed on the first training samples: "),
    "not scalar": (lambda outputs, targets: outputs, r"the loss returned \(\d+, 3\); expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_loss_is_refused_before_training(name: str) -> None:
    loss, message = BAD[name]
    goal = CustomGoal(loss, MAE)
    module = nn.Linear(3, 3)
    before = module.weight.detach().clone()
    with pytest.raises(UsageError, match=message):
        check_loss(goal, X.clone().requires_grad_(), Y)
    with pytest.raises(UsageError, match=message):
        train(module, Task((X, Y), test=(X[:3], Y[:3]), goal=goal), Training(compute="cpu"),
              GoalLoss(goal))
    assert torch.equal(module.weight, before)


def test_a_good_loss_passes() -> None:
    check_loss(CustomGoal(error, MAE), X.clone().requires_grad_(), Y)
    check_loss(Binary(), torch.zeros(4, requires_grad=True), torch.ones(4))


def test_targets_of_any_form_reach_loss_and_metric() -> None:
    seen: list[Any] = []

    class Seen:
        higher_is_better = True

        def update(self, outputs: Any, targets: Any) -> None:
            seen.append(targets)

        def compute(self) -> float:
            return 1.0

        def reset(self) -> None:
            pass

    boxes = [{"boxes": torch.ones(index % 3, 4), "name": str(index)} for index in range(12)]
    goal = CustomGoal(lambda outputs, targets: sum(outputs[row].sum() * len(target["boxes"])
                                                   for row, target in enumerate(targets)),
                      {"seen": Seen()}, lists_targets=True)
    task = Task((X, boxes), (X[:5], boxes[:5]), (X[5:7], boxes[5:7]), goal=goal)
    train(nn.Linear(3, 3), task, Training(epochs=1, batch_size=4, lr=1e-3, compute="cpu"),
          GoalLoss(goal))
    assert [target["name"] for target in seen[1]] == list("01234")  # after the check
    assert [len(target["boxes"]) for target in seen[1]] == [0, 1, 2, 0, 1]


def test_a_metric_that_raises_ends_training_by_name() -> None:
    class Broken(torchmetrics.MeanAbsoluteError):
        def update(self, preds: Any, target: Any) -> None:
            raise ZeroDivisionError("mine")

    goal = CustomGoal(error, {"mine": Broken()})
    with pytest.raises(UsageError, match="the metric Broken cannot take this batch: "
                                         "ZeroDivisionError: mine"):
        train(nn.Linear(3, 3), Task((X, Y), test=(X[:3], Y[:3]), goal=goal),
              Training(compute="cpu"), GoalLoss(goal))


@pytest.mark.parametrize(("value", "message"), [
    (None, "the metric 'own' cannot be computed: ValueError: no"),
    (torch.zeros(3), r"the metric 'own' returned tensor\(.*; expected one number")])
def test_a_metric_that_cannot_be_computed_is_refused_before_training(value: Any,
                                                                    message: str) -> None:
    class Own(torchmetrics.MeanAbsoluteError):
        def compute(self) -> Any:
            if value is None:
                raise ValueError("no")
            return value

    goal = CustomGoal(error, {"own": Own()})
    module = nn.Linear(3, 3)
    before = module.weight.detach().clone()
    with pytest.raises(UsageError, match=message):
        train(module, Task((X, Y), test=(X[:3], Y[:3]), goal=goal), Training(compute="cpu"),
              GoalLoss(goal))
    assert torch.equal(module.weight, before)
