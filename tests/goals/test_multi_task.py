from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals import (
    Binary,
    Categorical,
    Classification,
    Embedding,
    MultiTask,
    Origin,
    Reconstruction,
    Regression,
    Segmentation,
    Values,
)
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, evaluate_module, train

N = 8
ORIGIN = Origin("train", torch.arange(N), classes=1)
GOAL = MultiTask({"age": Regression(unit="years"), "sex": Classification()}, {"age": 0.5})
AGE, SEX = torch.randn(N, 1), torch.randn(N, 2)
AGES, SEXES = torch.rand(N), torch.arange(N) % 2
OUTPUTS = {"age": AGE, "sex": SEX, "hidden": torch.zeros(3)}
TARGETS = {"age": AGES, "sex": SEXES}


@pytest.mark.parametrize("targets", [TARGETS, (AGES, SEXES), {**TARGETS, "id": AGES}])
def test_loss_metrics_and_predictions_are_those_of_the_parts(targets: Any) -> None:
    checked = GOAL.check_targets(targets, ORIGIN, OUTPUTS)
    made = GOAL.make_targets((torch.zeros(N, 3),), checked)
    assert {name: part.dtype for name, part in made.items()} == {"age": torch.float32,
                                                                 "sex": torch.int64}
    GOAL.check_outputs(OUTPUTS, (torch.zeros(N, 3),))
    expected = 0.5 * float(Regression().loss(AGE, AGES)) + float(Classification().loss(SEX, SEXES))
    assert float(GOAL.loss(OUTPUTS, made)) == pytest.approx(expected, rel=1e-6)
    values = {}
    for metric in GOAL.metrics:
        counter = metric.make()
        for rows in (slice(0, 5), slice(5, None)):
            counter.update(*GOAL.metric_inputs(
                {"age": AGE[rows], "sex": SEX[rows]},
                {name: part[rows] for name, part in made.items()}))
        values[metric.spec.name] = float(counter.compute())
        counter.reset()
    assert values == {
        "age/mae": pytest.approx(float((AGE[:, 0] - AGES).abs().mean()), rel=1e-5),
        "age/rmse": pytest.approx(float((AGE[:, 0] - AGES).square().mean().sqrt()), rel=1e-5),
        "sex/accuracy": float((SEX.argmax(1) == SEXES).float().mean())}
    assert [(found.name, found.kind) for found in GOAL.predictions(OUTPUTS)] == [
        ("age", Values()), ("sex", Categorical())]
    assert GOAL.metrics[0].spec.unit == "years"


def test_positions_of_a_tuple_are_names() -> None:
    goal = MultiTask({"0": Regression(), "1": Classification()})
    targets = goal.check_targets((AGES, SEXES), ORIGIN, (AGE, SEX))
    expected = Regression().loss(AGE, AGES) + Classification().loss(SEX, SEXES)
    torch.testing.assert_close(goal.loss((AGE, SEX), targets), expected)
    assert [found.name for found in goal.predictions((AGE, SEX))] == ["0", "1"]


@pytest.mark.parametrize(("targets", "message"), [
    (None, "goal 'age': the train split has no targets; expected real values"),
    (AGES, "the targets of the train split are a Tensor; expected a dict with age, sex, or a tuple "
           "in this order"),
    ((AGES,), "the targets of the train split are a tuple of 1; expected a dict with age, sex"),
    ([AGES, SEXES], "the targets of the train split are a list of 2; expected a dict"),
    ({"age": AGES, "gender": SEXES}, "the targets of the train split are age, gender; there are "
                                     "none for sex"),
    ({}, "the targets of the train split are an empty dict; there are none for age, sex"),
    ({"age": AGES, "sex": SEXES + 1}, "goal 'sex': sample 1 of the train split has label 2; "
                                      r"allowed: 0\.\.1"),
    ((SEXES > 0, AGES), "goal 'age': the targets of the train split are bool"),
])
def test_targets_that_do_not_fit_name_the_goal(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        GOAL.check_targets(targets, ORIGIN, OUTPUTS)


def test_outputs_that_do_not_fit_name_the_goal() -> None:
    inputs = (torch.zeros(N, 3),)
    with pytest.raises(ModelError, match=r"goal 'sex': the output of the model is \(N, 1\) float32"):
        GOAL.check_outputs({"age": AGE, "sex": AGE}, inputs)
    with pytest.raises(ModelError, match="the goal 'sex' expects an output of that name, but the "
                                         "model returns 'age', 'gender'"):
        GOAL.check_outputs({"age": AGE, "gender": SEX}, inputs)
    with pytest.raises(ModelError, match="but the model returns a single tensor"):
        GOAL.check_outputs(AGE, inputs)


@pytest.mark.parametrize(("goals", "weights", "message"), [
    ({}, {}, "a goal of several needs at least one"),
    ({"a": Binary()}, {"b": 1.0, "c": 1.0}, "the weights of b, c belong to no goal; the goals are a"),
    ({"a": Binary(output="a")}, {}, "the goal 'a' names the output 'a', but the name of one of "
                                    "several goals is that of its output; leave output out"),
])
def test_invalid_combinations_are_refused(goals: Any, weights: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MultiTask(goals, weights)


def test_what_one_goal_refuses_all_refuse() -> None:
    assert GOAL.smooth_labels(0.0) is GOAL
    with pytest.raises(UsageError, match="needs classes, but the task's goal is regression"):
        GOAL.smooth_labels(0.1)
    two = MultiTask({"a": Classification(), "b": Classification(label_smoothing=0.2)})
    assert two.smooth_labels(0.1) == MultiTask({"a": Classification(label_smoothing=0.1),
                                                "b": Classification(label_smoothing=0.1)})
    other = torch.randperm(N)
    mixed = GOAL.mix(TARGETS, other, 0.3, OUTPUTS)
    torch.testing.assert_close(mixed["age"], Regression().mix(AGES, other, 0.3, AGE))
    torch.testing.assert_close(mixed["sex"], Classification().mix(SEXES, other, 0.3, SEX))
    with pytest.raises(UsageError, match="cannot mix the targets of the goal embedding"):
        MultiTask({"a": Embedding()}).mix({"a": SEXES}, other, 0.3, {"a": SEX})
    assert MultiTask({"a": Classification()}).allows_augmentation({"a": SEXES})
    assert not MultiTask({"a": Classification(), "b": Segmentation()}).allows_augmentation(
        {"a": SEXES, "b": SEXES})


def test_only_goals_that_need_targets_ask_for_them() -> None:
    goal = MultiTask({"image": Reconstruction(), "sex": Classification()})
    assert goal.requires_targets
    assert not MultiTask({"image": Reconstruction()}).requires_targets
    checked = goal.check_targets({"sex": SEXES}, ORIGIN)
    made = goal.make_targets((torch.ones(N, 3),), checked)
    assert torch.equal(made["image"], torch.ones(N, 3))


@pytest.mark.parametrize("as_tuple", [False, True])
def test_a_model_with_two_heads_learns_both(as_tuple: bool) -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> Any:
            found = (self.first(x), self.second(x))
            return found if as_tuple else dict(zip(("0", "1"), found, strict=True))

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    values, labels = x[:, 0] * 3, (x[:, 1] > 0).long()
    task = Task((x, (values, labels)), (x[:20], (values[:20], labels[:20])),
                (x[20:], {"0": values[20:], "1": labels[20:]}),
                goal={"0": "regression", "1": "classification"})
    module = Heads()
    before = evaluate_module(module, task.test, task.goal)[-1]
    record = train(module, task, Training(epochs=15, batch_size=8, lr=0.05, compute="cpu"),
                   GoalLoss(task.goal))
    after = evaluate_module(module, task.test, task.goal)[-1]
    assert record.score.name == after.name == "0/mae"
    assert after.value < 0.2 * before.value
    last = task.goal.metrics[2].make()
    batch = next(task.test.batches(44))
    last.update(module(*batch.inputs), batch.targets)
    assert float(last.compute()) > 0.9


def test_labels_are_checked_by_the_number_of_names() -> None:
    goal = MultiTask({"age": Regression(), "sex": Classification()}, classes={"sex": ("f", "m")})
    with pytest.raises(DataError, match=r"goal 'sex': .*sample 3 .*label 2; allowed: 0\.\.1"):
        goal.check_targets({"age": AGES, "sex": torch.tensor([0, 1, 0, 2, 0, 1, 0, 1])}, ORIGIN)


def test_names_of_classes_of_no_goal_are_refused() -> None:
    with pytest.raises(UsageError, match="the names of the classes of size belong to no goal"):
        MultiTask({"age": Regression()}, classes={"size": ("s", "l")})
