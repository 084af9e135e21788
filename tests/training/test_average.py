from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.errors import UsageError
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import (
    ConstrainedObjective,
    GoalLoss,
    StepHook,
    Training,
    evaluate_module,
    train,
)


@pytest.fixture
def task() -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48, 4, generator=generator)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()
    return Task((x[:32], y[:32]), val=(x[32:40], y[32:40]), test=(x[40:], y[40:]))


def net() -> Any:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


class Recorded(StepHook):
    """The state after every step."""

    def start(self, module: nn.Module) -> None:
        self.module = module
        self.states: list[dict[str, Any]] = []

    def after_step(self, step: Any) -> None:
        self.states.append(copy.deepcopy(self.module.state_dict()))


def run(module: nn.Module, task: Task, *hooks: Any, **settings: Any) -> Any:
    config = Training(**{"epochs": 3, "batch_size": 8, "compute": "cpu"} | settings)
    return train(module, task, config, ConstrainedObjective(GoalLoss(Classification()), hooks))


@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize("capture", [False, True])
def test_the_result_is_the_average_of_the_weights_of_every_step(task: Any, decay: float,
                                                                capture: bool) -> None:
    module, hook = net(), Recorded()
    if capture:
        module = Program.capture(net().eval(), torch.zeros(2, 4)).module(train=True)
    record = run(module, task, hook, ema=decay)
    assert len(hook.states) == 12
    average: dict[str, Tensor] = {}
    accuracies = []
    for index, state in enumerate(hook.states):
        for name, tensor in state.items():
            if name in average and tensor.is_floating_point():
                average[name] = decay * average[name] + (1 - decay) * tensor.double()
            else:
                average[name] = tensor.double()
        if index % 4 == 3:
            judge = net()
            judge.load_state_dict(average)
            score = evaluate_module(judge, task.val, Classification())[-1]
            accuracies.append((score.value, judge.state_dict()))
    assert [e.val_accuracy for e in record.history] == [accuracy for accuracy, _ in accuracies]
    best = accuracies[record.kept_epoch - 1][1]
    found = dict(module.state_dict())  # a captured network counts no batches
    torch.testing.assert_close(found, {name: best[name] for name in found}, rtol=1e-5, atol=1e-6)
    if not capture:
        assert int(module[1].num_batches_tracked) == 4 * record.kept_epoch


def test_the_weights_themselves_move_as_without_an_average(task: Any) -> None:
    with_average, without = Recorded(), Recorded()
    run(net(), task, with_average, ema=0.9)
    run(net(), task, without)
    torch.testing.assert_close(with_average.states, without.states, rtol=0, atol=0)


def test_ema_rejects_hooks_that_settle_late(task: Any) -> None:
    class Tightens(StepHook):
        def is_settled(self, step: Any) -> bool:
            return step.progress > 0.5

    with pytest.raises(UsageError, match=r"ema would include weights from before Tightens has "
                       r"taken full effect.*set ema=None"):
        run(net(), task, Tightens(), ema=0.9)


def test_ema_rejects_modules_that_cannot_be_copied(task: Any) -> None:
    class Generating(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 2)
            self.lines = (line for line in "ab")

    with pytest.raises(UsageError, match=r"ema needs a copy of the model, but Generating cannot be "
                       r"copied \(.*generator.*\); set ema=None"):
        run(Generating(), task, ema=0.9)
