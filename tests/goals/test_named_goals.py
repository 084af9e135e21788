"""What every goal must do, a user's own included."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.core import MetricSpec
from edgewright.errors import DataError, ModelError, UsageError
from edgewright.goals import (
    GOALS,
    Bernoulli,
    Classification,
    Goal,
    Metric,
    MultiTask,
    NamedMetric,
    Origin,
    PredictionKind,
    Reconstruction,
    Regression,
    SinglePrediction,
    as_goal,
    check_loss,
    read_metric,
)
from edgewright.goals._metrics import Accuracy
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, evaluate_module, measure_loss, train

N = 12


@dataclass(frozen=True)
class Ordinal(SinglePrediction):
    """A user's own goal: a grade from 0 to 3 as three questions, "is it above?"."""

    output: str | int | None = None
    name: ClassVar[str] = "ordinal"

    @property
    def kind(self) -> PredictionKind:
        return Bernoulli()

    @property
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        return (NamedMetric(MetricSpec(name="grade", unit="fraction"), Grade),)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        above = (targets[:, None] > torch.arange(3, device=targets.device)).float()
        return F.binary_cross_entropy_with_logits(self.select(outputs), above)

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Any:
        if targets is None:
            raise DataError(f"the {origin.split} split has no grades")
        return targets.long()


class Grade:
    def __init__(self) -> None:
        self.accuracy = Accuracy()

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        self.accuracy.update(F.one_hot((predictions > 0).sum(1), 4), targets)

    def compute(self) -> float:
        return self.accuracy.compute()

    def reset(self) -> None:
        self.accuracy.reset()


IMAGES = (N, 2, 4, 4)
CASES: dict[str, tuple[Goal, tuple[int, ...], Any]] = {  # goal, shape of outputs, targets
    "classification": (GOALS["classification"](), (N, 3), torch.arange(N) % 3),
    "binary": (GOALS["binary"](), (N, 1), torch.arange(N) % 2),
    "multi-label": (GOALS["multi-label"](), (N, 3), torch.arange(3 * N).view(N, 3) % 2),
    "segmentation": (GOALS["segmentation"](), (N, 3, 4, 4), torch.arange(16 * N).view(N, 4, 4) % 3),
    "regression": (GOALS["regression"](), (N, 2), torch.arange(2.0 * N).view(N, 2)),
    "reconstruction": (GOALS["reconstruction"](), IMAGES, None),
    "embedding": (GOALS["embedding"](), (N, 3), torch.arange(N) % 3),
    "anomalies": (Reconstruction(anomalies=True), IMAGES, torch.arange(N) % 2),
    "ordinal": (Ordinal(), (N, 3), torch.arange(N) % 4),
}
ORIGIN = Origin("train", torch.arange(N))


class Model(nn.Module):
    """Flattens the images, and returns outputs of a shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shape = shape[1:]
        self.linear = nn.Linear(32, int(torch.tensor(self.shape).prod()))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)).unflatten(1, self.shape)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Goal, tuple[int, ...], Any]:
    return CASES[request.param]


def test_every_named_goal_is_tested() -> None:
    assert set(GOALS) <= {*CASES, "detection"}  # whose outputs are several: test_detection


def test_loss_metrics_and_predictions_fit_together(case: Any) -> None:
    goal, shape, raw = case
    outputs, inputs = torch.randn(shape).requires_grad_(), (torch.rand(IMAGES),)
    goal.check_outputs(outputs, inputs)
    targets = goal.make_targets(inputs, goal.check_targets(raw, ORIGIN, outputs))
    assert goal.loss(outputs, targets).shape == ()
    check_loss(goal, outputs, targets)
    assert goal.metrics
    for metric in goal.metrics:
        made = metric.make()
        assert isinstance(made, Metric)
        made.update(*goal.metric_inputs(outputs.detach(), targets))
        value = read_metric(metric.spec.name, made)
        assert value == value
        assert metric.spec.unit != "fraction" or 0 <= value <= 1
    (prediction,) = goal.predictions(outputs)
    assert bool((prediction.kind.agree(outputs, outputs) == 1).all())
    if (classes := prediction.kind.class_logits(prediction.tensor)) is not None:
        assert classes.shape[-1] > 1


def test_an_output_may_have_a_name(case: Any) -> None:
    goal, shape, raw = case
    named = copy.deepcopy(goal)
    object.__setattr__(named, "output", "main")
    outputs, inputs = torch.randn(shape), (torch.rand(IMAGES),)
    tree = {"hidden": torch.zeros(1), "main": outputs}
    named.check_outputs(tree, inputs)
    targets = goal.make_targets(inputs, goal.check_targets(raw, ORIGIN, outputs))
    assert torch.equal(named.loss(tree, targets), goal.loss(outputs, targets))
    assert [(found.name, found.kind) for found in named.predictions(tree)] == [("main", goal.kind)]
    with pytest.raises(ModelError, match="the model returns 2 outputs"):
        goal.check_outputs(tree, inputs)


def test_missing_targets_are_refused_only_where_they_are_needed(case: Any) -> None:
    goal, _, raw = case
    assert goal.requires_targets == (raw is not None)
    if goal.requires_targets:
        with pytest.raises(DataError, match="the train split has no"):
            goal.check_targets(None, ORIGIN)


def test_checked_targets_can_be_made_in_any_batches(case: Any) -> None:
    goal, shape, raw = case
    outputs, inputs = torch.randn(shape), torch.rand(IMAGES)
    task = Task((inputs, raw), test=(inputs[:5], None if raw is None else raw[:5]), goal=goal)
    task.check(outputs)
    whole = goal.make_targets((inputs,), goal.check_targets(raw, ORIGIN, outputs))
    for batch in task.test.batches(2):
        parts, expected = ([batch.targets], [whole]) if isinstance(whole, Tensor) else (
            list(batch.targets.values()), list(whole.values()))
        for part, target in zip(parts, expected, strict=True):
            assert torch.equal(part, target[batch.rows])


def test_identity_pickle_and_settings(case: Any) -> None:
    goal, _, _ = case
    assert pickle.loads(pickle.dumps(goal)) == goal  # noqa: S301 - its own
    assert copy.deepcopy(goal).identity == goal.identity
    assert "0x" not in goal.identity
    assert goal.name in (*GOALS, "ordinal")
    assert goal.smooth_labels(0.0).identity == goal.identity


def test_it_trains_and_its_metric_is_the_score(case: Any) -> None:
    goal, shape, raw = case
    inputs = torch.rand(IMAGES, generator=torch.Generator().manual_seed(0))
    part = None if raw is None else raw[:8]
    task = Task((inputs, raw), (inputs[:8], part), (inputs[2:10], part), goal=goal)
    module = Model(shape)
    before = measure_loss(module, task.train, goal)
    record = train(module, task, Training(epochs=8, batch_size=6, lr=0.02, optimizer="adamw",
                                          compute="cpu"), GoalLoss(goal))
    assert record.score.name == task.metric.name == goal.metrics[0].spec.name
    assert (record.score.unit, record.score.higher_is_better) == (
        task.metric.unit, task.metric.higher_is_better)
    assert record.history[-1].loss < before
    assert evaluate_module(module, task.val, goal)[-1] == record.score


def test_accumulation_trains_on_targets_of_any_structure(case: Any) -> None:
    goal, shape, raw = case
    inputs = torch.rand(IMAGES)
    part = None if raw is None else raw[:8]
    task = Task((inputs, raw), (inputs[:8], part), (inputs[2:10], part), goal=goal)
    record = train(Model(shape), task, Training(epochs=1, batch_size=6, accumulate=2,
                                                compute="cpu"), GoalLoss(goal))
    assert record.history[0].loss == record.history[0].loss


@pytest.mark.parametrize("name", GOALS)
def test_a_name_stands_for_its_goal(name: str) -> None:
    assert as_goal(name) == GOALS[name]()
    assert as_goal(name).name == name


def test_a_dict_is_one_goal_per_output_and_a_goal_itself() -> None:
    goal = Regression("l1")
    assert as_goal(goal) is goal
    assert as_goal({"a": goal, "b": "classification", "2": {"c": "binary"}}) == MultiTask(
        {"a": goal, "b": Classification(), "2": MultiTask({"c": GOALS["binary"]()})})


@pytest.mark.parametrize("given", ["mse", 3, None, Regression, [Regression()]])
def test_an_unknown_goal_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match=r"unknown goal .*; expected 'classification', 'binary', "
                                         "'multi-label', 'segmentation', 'regression'"):
        as_goal(given)
