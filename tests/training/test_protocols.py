"""Optimizers, schedules and objectives keep what their protocols say, a user's own too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from edgewright.errors import UsageError
from edgewright.goals import Classification
from edgewright.pipeline import Recipe
from edgewright.task import Task
from edgewright.training import (
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    AdamW,
    Augmentation,
    Compute,
    CosineSchedule,
    EpochRecord,
    GoalLoss,
    LearningRateSchedule,
    Objective,
    OptimizerConfig,
    Position,
    Score,
    StoredTargets,
    Training,
    train,
)


class SignSGD:
    """An optimizer of a user's own."""

    name, scale_invariant = "sign sgd", True

    def build(self, groups: Any, lr: Any) -> Any:
        return torch.optim.Rprop(groups, lr=lr)


class Halving:
    """A schedule of a user's own."""

    name = "halving"

    def factor(self, position: Any) -> Any:
        return 0.5 ** (position.step // position.steps_per_epoch)


class Focal(Objective):
    """A loss of a user's own."""

    goal = Classification()

    def loss(self, outputs: Any, batch: Any) -> Any:
        chances = outputs[-1].softmax(1)[torch.arange(len(batch.targets)), batch.targets]
        return (-(1 - chances) ** 2 * chances.log()).mean()


class Values(Objective):
    """Another, which looks at no label."""

    def loss(self, outputs: Any, batch: Any) -> Any:
        return F.mse_loss(outputs[-1][:, :2], batch.inputs[0][:, :2])


def blobs() -> Any:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return Task((x, y), (x[:32], y[:32]), (x[32:], y[32:]))


def fit(config: Any, objective: Any = None) -> tuple[Any, ...]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    record = train(module, blobs(), config, objective or GoalLoss(Classification()), seed=1)
    return module, record


@pytest.mark.parametrize("optimizer", [*(kind() for kind in OPTIMIZERS.kinds.values()), SignSGD()],
                         ids=lambda optimizer: optimizer.name)
def test_every_optimizer_trains_its_groups_reproducibly(optimizer: Any) -> None:
    assert isinstance(optimizer, OptimizerConfig)
    first, second = (nn.Parameter(torch.ones(3)) for _ in range(2))
    built = optimizer.build([{"params": [first], "size": 0.5, "weight_decay": 0.1},
                             {"params": [second], "size": 1.0, "weight_decay": 0.0}], 0.1)
    assert [group["size"] for group in built.param_groups] == [0.5, 1.0]
    assert all(group["lr"] == 0.1 for group in built.param_groups)
    config = Training(epochs=4, batch_size=16, lr=0.02, optimizer=optimizer, compute="cpu")
    (module, record), (again, _) = fit(config), fit(config)
    assert record.history[-1].loss < record.history[0].loss
    torch.testing.assert_close(module.state_dict(), again.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("schedule", [*(kind() for kind in SCHEDULES.kinds.values()), Halving()],
                         ids=lambda schedule: schedule.name)
def test_every_schedule_depends_on_the_position_only(schedule: Any) -> None:
    assert isinstance(schedule, LearningRateSchedule)
    history = tuple(EpochRecord(epoch, 1.0, Score("accuracy", 0.5), 0.1, 1.0)
                    for epoch in range(1, 9))
    positions = [Position(step, 5, 10, history[:step // 5]) for step in range(50)]
    factors = [schedule.factor(position) for position in positions]
    assert all(0 <= factor <= 1 for factor in factors)
    assert [schedule.factor(position) for position in reversed(positions)] == factors[::-1]
    _, record = fit(Training(epochs=2, batch_size=16, schedule=schedule, compute="cpu"))
    assert len(record.history) == 2


@pytest.mark.parametrize("objective", [GoalLoss(Classification()), Focal(), Values()],
                         ids=lambda objective: objective.name)
def test_every_objective_gives_a_scalar_that_training_minimizes(objective: Any) -> None:
    assert not isinstance(objective, StoredTargets)
    _, record = fit(Training(epochs=6, batch_size=16, lr=0.1, compute="cpu"), objective)
    assert record.history[-1].loss < record.history[0].loss
    assert record.history[0].score.name == ("accuracy" if objective.goal else "loss")


@pytest.mark.parametrize("training", [
    Training(), Training(optimizer=SGD(momentum=0.8, nesterov=True)), Training(augment=False),
    Training(optimizer=AdamW(betas=(0.9, 0.95)), schedule=CosineSchedule(warmup_epochs=2)),
    Training(augment=Augmentation(policy=None, mixup=0.2)), Training(augment="rand_augment"),
    Training(compute=Compute(devices=2, compile="auto")), Training(compute="cpu"),
    *(Training(schedule=name) for name in SCHEDULES.kinds)])
def test_a_recipe_is_read_as_it_was_written(training: Any, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(Recipe(recover=training).to_yaml())
    assert Recipe.load(path).recover == training


def test_defaults_are_written_by_name_and_settings_under_it() -> None:
    text = Recipe(recover=Training(optimizer=SGD(momentum=0.8), compute="cpu")).to_yaml()
    written = yaml.safe_load(text)["recover"]
    assert written["optimizer"] == {"sgd": {"momentum": 0.8, "nesterov": False}}
    assert (written["schedule"], written["augment"], written["compute"]) == (
        "cosine", "standard", "cpu")


def test_custom_objects_are_written_by_name_and_cannot_be_read() -> None:
    written = Training(optimizer=SignSGD(), schedule=Halving()).model_dump()
    assert (written["optimizer"], written["schedule"]) == ("sign sgd", "halving")
    with pytest.raises(UsageError, match="optimizer: Input should be 'sgd' or 'adamw', or your own "
                       "object of type OptimizerConfig, given in Python, got"):
        Training.model_validate(written)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(UsageError, match="SGD: nesterov needs a momentum above 0"):
        SGD(momentum=0, nesterov=True)
    with pytest.raises(UsageError, match="AdamW: betas: each should be at least 0 and below 1"):
        AdamW(betas=(0.9, 1.0))
