from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import ModelError, UsageError
from edgewright.goals import Classification, Regression
from edgewright.task import TensorSplit
from edgewright.training import (
    Score,
    evaluate_module,
    measure_loss,
    run_batches,
    split_exits,
    update_metric,
)


class TwoExits(nn.Module):
    """The second output is the input; the first is shifted by one class; noisy in training."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Any:
        x = self.dropout(x)
        return x.roll(1, dims=1), x


GOAL = Classification()
SPLIT = TensorSplit(torch.eye(4).repeat(5, 1), torch.tensor([0, 1, 2, 0] * 5))


def test_the_accuracy_of_each_output_whatever_the_batch_size() -> None:
    for batch_size in (1, 3, 256):
        assert evaluate_module(TwoExits(), SPLIT, GOAL, exits=1, batch_size=batch_size) == (
            Score("accuracy", 0.25, unit="fraction"), Score("accuracy", 0.75, unit="fraction"))


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_is_restored(mode: bool) -> None:
    module = TwoExits().train(mode)
    evaluate_module(module, SPLIT, GOAL, exits=1)
    assert module.training is mode
    assert module.dropout.training is mode


def test_the_mode_is_restored_after_an_error() -> None:
    module = nn.Linear(3, 3).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluate_module(module, SPLIT, GOAL)
    assert module.training


def test_outputs_and_batches_are_in_order() -> None:
    found = list(run_batches(TwoExits(), SPLIT, exits=1, batch_size=3))
    exits = [torch.cat(parts) for parts in zip(*(outputs for outputs, _ in found), strict=True)]
    assert torch.equal(exits[1], torch.eye(4).repeat(5, 1))
    assert torch.equal(exits[0], torch.eye(4).repeat(5, 1).roll(1, dims=1))
    assert torch.cat([batch.targets for _, batch in found]).tolist() == [0, 1, 2, 0] * 5


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_the_mean_loss_over_exits_whatever_the_batch_size(batch_size: int) -> None:
    logits, targets = torch.eye(4).repeat(5, 1).double(), torch.tensor([0, 1, 2, 0] * 5)
    expected = sum(float(nn.functional.cross_entropy(exit_logits, targets))
                   for exit_logits in (logits, logits.roll(1, dims=1))) / 2
    found = measure_loss(TwoExits(), SPLIT, GOAL, exits=1, batch_size=batch_size)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_score_is_the_primary_metric_of_any_goal() -> None:
    x = torch.randn(10, 2)
    split = TensorSplit(x, x + 0.5).for_goal(Regression(unit="years"))
    (score,) = evaluate_module(nn.Identity(), split, Regression(unit="years"), batch_size=4)
    assert (score.name, score.unit, score.higher_is_better) == ("mae", "years", False)
    assert score.value == pytest.approx(0.5)
    assert score.merit == -score.value


def test_a_metric_that_raises_is_named() -> None:
    class Broken:
        def update(self, predictions: Any, targets: Any) -> None:
            raise KeyError("mine")

        def compute(self) -> float:
            return 0.0

        def reset(self) -> None:
            pass

    with pytest.raises(UsageError, match="the metric Broken cannot take this batch: KeyError: "
                                         "'mine'"):
        update_metric(GOAL, Broken(), torch.zeros(2, 2), torch.zeros(2).long())


@pytest.mark.parametrize("result", [torch.zeros(1), {"logits": torch.zeros(1)}, (), "text",
                                    (torch.zeros(1), torch.zeros(1))])
def test_without_exits_whatever_is_returned_is_one_output(result: Any) -> None:
    (found,) = split_exits(result, exits=0)
    assert found is result


@pytest.mark.parametrize(("result", "found"), [
    ({"logits": torch.zeros(1)}, "dict"), ((), "0"), ([torch.zeros(1)], "1"), ("text", "str"),
    (torch.zeros(2, 3), "Tensor"), ((1, 2, 3), "3"),
])
def test_a_wrong_number_of_exits_raises(result: Any, found: str) -> None:
    with pytest.raises(ModelError, match=f"the model returns {found} outputs; expected 2: 1 early "
                                         "exits and the final output"):
        split_exits(result, exits=1)
    with pytest.raises(ModelError, match=f"the model returns {found} outputs; expected 4: 2 "
                                         "features, 1 early exits and the final output"):
        split_exits(result, exits=1, features=2)


def test_features_precede_the_exits() -> None:
    parts = [torch.full((1,), float(index)) for index in range(4)]
    assert split_exits(parts, exits=1, features=2) == tuple(parts)
