"""Which weights are kept: by what the objective says, the ones that were given among them."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.goals import Classification
from edgewright.task import Task
from edgewright.training import (
    ConstrainedObjective,
    EpochRecord,
    GoalLoss,
    Objective,
    Score,
    StepHook,
    Training,
    TrainingRecord,
    train,
)

torch.manual_seed(0)
X = torch.randn(512, 8)
WANTED = torch.tanh(X @ torch.randn(8, 4))
DUMMY = torch.zeros(512, dtype=torch.long)
TASK = Task((X, DUMMY), (X[:64], DUMMY[:64]), (X[64:128], DUMMY[:64]))


class Regression(Objective):
    """Targets by row; the labels are dummies."""

    def loss(self, outputs: Any, batch: Any) -> Any:
        return nn.functional.mse_loss(outputs[0], WANTED[batch.rows])


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


def scored(number: Any, value: Any, name: str = "loss", settled: bool = True) -> Any:
    return EpochRecord(number, 1.0, Score(name, value, higher_is_better=name != "loss"), 0.1, 1.0,
                       settled)


def test_a_regression_keeps_the_epoch_of_its_lowest_validation_loss() -> None:
    module = network()
    record = train(module, TASK, Training(epochs=8, lr=0.3, weight_decay=0, compute="cpu"),
                   Regression())
    losses = [epoch.score.value for epoch in record.history]
    assert record.kept_epoch == 1 + losses.index(min(losses))
    with torch.no_grad():
        kept = float(nn.functional.mse_loss(module(X[:64]), WANTED[:64]))
    assert kept == pytest.approx(min(losses), rel=1e-5)
    assert str(record.score).startswith("loss 0.")
    assert all(math.isnan(epoch.val_accuracy) for epoch in record.history)
    assert math.isnan(record.val_accuracy)


def test_regressions_accept_any_labels_and_a_single_output() -> None:
    rows = torch.arange(512)
    task = Task((X, rows), (X[:64], rows[:64]), (X[64:128], rows[:64]))

    class First(Objective):
        def loss(self, outputs: Any, batch: Any) -> Any:
            return nn.functional.mse_loss(outputs[0][:, 0], WANTED[batch.targets, 0])

    record = train(nn.Linear(8, 1), task, Training(epochs=2, compute="cpu"), First())
    assert record.score.value < 1


def test_a_custom_label_loss_may_select_by_accuracy() -> None:
    class Focal(Objective):
        goal = Classification()

        def loss(self, outputs: Any, batch: Any) -> Any:
            loss = nn.functional.cross_entropy(outputs[-1], batch.targets, reduction="none")
            return ((1 - (-loss).exp()) ** 2 * loss).mean()

    x, y = torch.randn(64, 8), torch.arange(64) % 3
    record = train(nn.Linear(8, 3), Task((x, y), test=(x[:9], y[:9])),
                   Training(epochs=2, compute="cpu"), Focal())
    assert record.score.name == "accuracy"
    assert 0 <= record.val_accuracy <= 1


@pytest.mark.parametrize(("values", "best"), [([3.0, 1.0, 2.0], 2), ([1.0, math.nan, 1.0], 3),
                                              ([math.nan, 5.0], 2)])
def test_lower_losses_are_better_and_nan_is_worst(values: list[Any] | list[float],
                                                  best: int) -> None:
    history = tuple(scored(n + 1, value) for n, value in enumerate(values))
    assert TrainingRecord(history, stopped_early=False).kept_epoch == best


def test_patience_counts_epochs_without_a_lower_loss() -> None:
    class Rising(Objective):
        losses = iter([5.0, 4.0, 6.0, 7.0, 8.0, 9.0])

        def loss(self, outputs: Any, batch: Any) -> Any:
            return outputs[0].square().mean()

        def validate(self, module: nn.Module, split: Any, *, exits: Any = None,
                     device: Any = None) -> Any:
            return Score("loss", next(self.losses), higher_is_better=False)

    objective = ConstrainedObjective(Rising(), (StepHook(),))  # the start is not asked for
    record = train(network(), TASK, Training(epochs=6, patience=2, compute="cpu"), objective)
    assert (len(record.history), record.kept_epoch, record.stopped_early) == (4, 2, True)


def good_classifier() -> tuple[Any, ...]:
    torch.manual_seed(1)
    x = torch.randn(256, 8)
    y = x[:, :3].argmax(1)
    module = nn.Linear(8, 3, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.eye(3, 8) * 10)
    return module, Task((x, y), (x[:64], y[:64]), (x[64:], y[64:]))


def test_training_never_returns_worse_weights_than_the_initial_ones(tmp_path: Path) -> None:
    module, task = good_classifier()
    before = module.weight.detach().clone()
    said = []

    class Notes:
        start = advance = time_left = epoch = stop = staticmethod(lambda *_: None)

        def note(self, text: str) -> None:
            said.append(text)

    config = Training(epochs=2, lr=50.0, compute="cpu", schedule="constant")
    record = train(module, task, config, GoalLoss(Classification()), progress=Notes(),
                   checkpoint=tmp_path / "c")
    assert record.start == Score("accuracy", 1.0, unit="fraction")
    assert (record.kept_epoch, record.val_accuracy) == (0, 1.0)
    assert torch.equal(module.weight, before)
    note = "no epoch was as good as the initial weights (accuracy 100.00 %): kept those"
    assert note in record.notes
    assert said[-1] == note
    again, _ = good_classifier()
    resumed = train(again, task, config, GoalLoss(Classification()), checkpoint=tmp_path / "c")
    assert (resumed.kept_epoch, resumed.start) == (0, record.start)
    assert torch.equal(again.weight, before)


def test_the_last_epoch_can_be_kept_whatever_the_scores_are(tmp_path: Path) -> None:
    module, task = good_classifier()
    before = module.weight.detach().clone()
    config = Training(epochs=3, lr=50.0, compute="cpu", schedule="constant", keep="last")
    record = train(module, task, config, GoalLoss(Classification()), checkpoint=tmp_path / "c")
    assert record.kept_epoch == 3
    assert record.score == record.history[-1].score != Score("accuracy", 1.0, unit="fraction")
    assert not torch.equal(module.weight, before)
    again, _ = good_classifier()
    resumed = train(again, task, config, GoalLoss(Classification()), checkpoint=tmp_path / "c")
    assert resumed.kept_epoch == 3
    assert torch.equal(again.weight, module.weight)


def test_an_epoch_that_is_as_good_is_preferred_to_the_start() -> None:
    start = Score("accuracy", 0.5)
    record = TrainingRecord((scored(1, 0.5, "accuracy"),), stopped_early=False, start=start)
    assert record.kept_epoch == 1
    assert asdict(record)["start"]["value"] == 0.5


def test_a_constraint_established_by_training_excludes_the_initial_weights() -> None:
    module, task = good_classifier()
    program = ew.Program.capture(module, task.train.example(2))
    training = Training(epochs=2, lr=5.0, compute="cpu", schedule="constant")
    pruned = ew.prune_weights(program, task, ew.WeightPruning(sparsity=0.5, training=training))
    assert pruned.sparsity["weight"] == pytest.approx(0.5, abs=0.05)


def test_fit_and_qat_keep_the_initial_weights_if_training_harms() -> None:
    module, task = good_classifier()
    program = ew.Program.capture(module, task.train.example(2))
    harmful = Training(epochs=1, lr=50.0, compute="cpu", schedule="constant")
    assert torch.equal(ew.fit(program, task, harmful).state_dict()["weight"], module.weight)
    scheme = {"first_last_bits": None, "calibration_samples": 64}
    trained = ew.quantize(program, task, ew.Quantization(method=ew.QAT(training=harmful), **scheme))
    accuracy = (trained.run(*task.val.example(64)).argmax(1)
                == task.val.targets()).float().mean()
    assert accuracy > 0.95
