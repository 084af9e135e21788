"""Metrics against slow references, and what is refused as a metric."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import MissingExtraError, UsageError
from edgewright.goals import CustomGoal, Metric, read_metric
from edgewright.goals._metrics import Accuracy, name_metrics, torchmetric


class Constant:
    """A metric of a user's own."""

    higher_is_better = True

    def __init__(self, value: Any = 0.5) -> None:
        self.value = value

    def update(self, predictions: Any, targets: Any) -> None:
        pass

    def compute(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def reset(self) -> None:
        pass


@given(seed=st.integers(0, 2**31), ignored=st.sampled_from([None, 0, 255]),
       sizes=st.lists(st.integers(1, 3), max_size=2), batches=st.integers(1, 3))
def test_accuracy_by_hand(seed: int, ignored: int | None, sizes: list[int], batches: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    metric, right, counted = Accuracy(ignore_index=ignored), 0, 0
    for _ in range(batches):
        logits = torch.randn(5, 3, *sizes, generator=generator)
        targets = torch.randint(0, 3, (5, *sizes), generator=generator)
        if ignored is not None:
            targets[torch.rand(targets.shape, generator=generator) < 0.3] = ignored
        metric.update(logits, targets)
        for row, target in zip(logits.movedim(1, -1).reshape(-1, 3).tolist(),
                               targets.flatten().tolist(), strict=True):
            right += row.index(max(row)) == target != ignored
            counted += target != ignored
    assert metric.compute() == pytest.approx(right / counted if counted else float("nan"),
                                             nan_ok=True)


def test_accuracy_without_positions_is_nan_and_reset_forgets() -> None:
    metric = Accuracy()
    metric.update(torch.eye(2), torch.tensor([0, 0]))
    assert metric.compute() == 0.5
    metric.reset()
    assert metric.compute() != metric.compute()


def test_a_torchmetric_is_a_metric_and_is_made_by_name() -> None:
    assert isinstance(torchmetric("regression.MeanAbsoluteError"), torchmetrics.MeanAbsoluteError)
    assert isinstance(torchmetrics.MeanAbsoluteError(), Metric)
    assert isinstance(Constant(), Metric)
    assert not isinstance(3, Metric)


def test_a_missing_torchmetrics_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics.regression", None)
    with pytest.raises(MissingExtraError, match="the metric MeanAbsoluteError"):
        torchmetric("regression.MeanAbsoluteError")


@pytest.mark.parametrize(("metrics", "message"), [
    ({"f1": 3}, "the metric 'f1' is 3; expected an object with update, compute and reset"),
    ({"mae": torchmetrics.MeanAbsoluteError}, "the metric 'mae' is <class .*; expected an object"),
    ({"mine": lambda outputs, targets: 0.5}, "the metric 'mine' is <function"),
    ({"mean": torchmetrics.MeanMetric()}, "the metric 'mean' does not say whether a higher value "
                                          "is better; set its attribute higher_is_better"),
    ({}, "a goal needs at least one metric; its first one is what budgets and epochs"),
])
def test_what_is_no_metric_is_refused_when_the_goal_is_made(metrics: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CustomGoal(lambda outputs, targets: outputs.sum(), metrics)


def test_every_metric_is_made_anew_from_the_users() -> None:
    given = torchmetrics.MeanAbsoluteError()
    given.update(torch.ones(2), torch.zeros(2))
    (found,) = name_metrics([("mae", given)], {"mae": "years"})
    assert (found.spec.name, found.spec.unit, found.spec.higher_is_better) == ("mae", "years", False)
    first, second = found.make(), found.make()
    first.update(torch.full((2,), 3.0), torch.zeros(2))
    second.update(torch.full((2,), 5.0), torch.zeros(2))
    assert [float(metric.compute()) for metric in (given, first, second)] == [1, 3, 5]


@pytest.mark.parametrize(("value", "message"), [
    (ZeroDivisionError("mine"), "the metric 'x' cannot be computed: ZeroDivisionError: mine"),
    (KeyError("mine"), "the metric 'x' cannot be computed: KeyError: 'mine'"),
    (torch.zeros(2), "the metric 'x' returned tensor([0., 0.]); expected one number"),
    ({"map": 0.5}, "the metric 'x' returned {'map': 0.5}; expected one number"),
    (None, "the metric 'x' returned None; expected one number"),
])
def test_a_metric_that_gives_no_number_is_named(value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_metric("x", Constant(value))
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [0.25, torch.tensor(0.25), torch.tensor([0.25])])
def test_a_metric_is_read_as_a_number(value: Any) -> None:
    assert read_metric("x", Constant(value)) == 0.25
