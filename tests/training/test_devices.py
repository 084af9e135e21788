"""Two processes on the CPU do what one does, and end together."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.errors import TrainingError, UsageError
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
from edgewright.training._devices import RequireAllGradients
from edgewright.training._pickling import pickle_run, unpickle_run

SETTINGS = {"epochs": 3, "batch_size": 16, "compute": "cpu", "ema": 0.8, "accumulate": 2,
            "clip_norm": 0.5}


TWO = {"compute": {"accelerator": "cpu", "devices": 2}}


class Told:
    """Notes what it is told; kills a process at a step, where one is given."""

    def __init__(self, kill_at: int = 0) -> None:
        self.kill_at, self.stopped = kill_at, False
        self.losses: list[tuple[int, float]] = []
        self.started: tuple[Any, ...] | None = None

    def start(self, *told: Any) -> None:
        self.started = told

    def advance(self, samples: Any, loss: Any) -> None:
        self.losses.append((samples, loss))
        if len(self.losses) == self.kill_at:
            multiprocessing.active_children()[0].kill()

    def time_left(self, seconds: float) -> None:
        pass

    def epoch(self, record: Any) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def stop(self) -> None:
        self.stopped = True


def task() -> Any:
    x = torch.randn(46, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] + x[:, 1] > 0).long()
    return Task((x, y), (x[:9], y[:9]), (x[9:], y[9:]))


def net() -> Any:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
    return Program.capture(module.eval(), torch.zeros(2, 4)).module()


def untimed(record: Any) -> Any:
    return [(e.epoch, e.loss, e.val_accuracy, e.lr) for e in record.history]


@pytest.fixture(scope="module")
def shared() -> tuple[Any, ...]:
    """A run on two devices."""
    module, told = net(), Told()
    record = train(module, task(), Training(**SETTINGS | TWO), GoalLoss(Classification()), progress=told)
    return module, record, told


def test_two_devices_match_one_device(shared: Any) -> None:
    module, record, told = shared
    one, alone = net(), Told()
    expected = train(one, task(), Training(**SETTINGS), GoalLoss(Classification()), progress=alone)
    torch.testing.assert_close(dict(module.state_dict()), dict(one.state_dict()), rtol=0, atol=1e-5)
    for found, wanted in zip(record.history, expected.history, strict=True):
        assert found.loss == pytest.approx(wanted.loss, abs=1e-5)
        assert (found.val_accuracy, found.lr) == (wanted.val_accuracy, wanted.lr)
    assert [samples for samples, _ in told.losses] == 3 * [16, 16, 14]
    assert [loss for _, loss in told.losses] == pytest.approx(
        [loss for _, loss in alone.losses], abs=1e-5)
    assert told.started == (3, 3, 0)
    assert told.stopped
    assert not module.training
    assert evaluate_module(module, task().val, Classification())[-1] == record.score
    assert not multiprocessing.active_children()


def test_a_run_resumes_after_losing_a_process(shared: Any, tmp_path: Path) -> None:
    module, whole, _ = shared
    resumed, told, config = net(), Told(kill_at=5), Training(**SETTINGS | TWO)
    with pytest.raises(TrainingError, match=r"process [12] of the training's 2 ended prematurely: "
                       r".*SIGKILL"):
        train(resumed, task(), config, GoalLoss(Classification()), checkpoint=tmp_path / "c", progress=told)
    assert told.stopped
    assert not multiprocessing.active_children()
    record = train(resumed, task(), config, GoalLoss(Classification()), checkpoint=tmp_path / "c")
    assert record.notes == (f"resumed after epoch 1 from {tmp_path / 'c'}",)
    assert untimed(record) == untimed(whole)
    torch.testing.assert_close(dict(resumed.state_dict()), dict(module.state_dict()), rtol=0, atol=0)


def test_an_error_is_reraised_with_the_last_good_weights() -> None:
    module = net()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    config = Training(epochs=2, batch_size=16, lr=1e30, **TWO)
    with pytest.raises(TrainingError, match=r"diverged in epoch 1 of 2, .* from before the training"):
        train(module, task(), config, GoalLoss(Classification()))
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)


def test_parameters_without_a_gradient_raise_by_name() -> None:
    module = nn.Sequential(nn.Linear(4, 2))
    module.register_parameter("spare", nn.Parameter(torch.zeros(3)))
    objective = ConstrainedObjective(GoalLoss(Classification()), (RequireAllGradients(),))  # as every process has it
    config = Training(epochs=1, batch_size=16, compute="cpu")
    with pytest.raises(UsageError, match=r"do not contribute to the loss: spare; freeze them"):
        train(module, task(), config, objective)
    module.spare.requires_grad_(False)
    assert len(train(module, task(), config, objective).history) == 1


class Unsendable(StepHook):
    def __init__(self) -> None:
        self.lines = (line for line in "ab")


def test_unpicklable_parts_raise_by_name() -> None:
    class Local(nn.Linear):
        pass

    config = Training(**TWO)
    with pytest.raises(UsageError, match=r"devices > 1 .* the module Local cannot be pickled: "
                       r".*Local.*\. Define its classes and functions at the top level"):
        train(Local(4, 2), task(), config, GoalLoss(Classification()))
    with pytest.raises(UsageError, match=r"but the hook Unsendable cannot be pickled: .*generator"):
        train(nn.Linear(4, 2), task(), config, ConstrainedObjective(GoalLoss(Classification()), (Unsendable(),)))


def test_a_captured_network_survives_pickling() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Flatten(),
                           nn.Linear(64, 3))
    captured = Program.capture(module.eval(), torch.zeros(2, 1, 6, 6)).module(train=True)
    next(iter(captured.graph.nodes)).meta["noted"] = True
    captured.meta["held"] = ("0.weight",)
    captured.unknown = object()  # type: ignore[assignment]
    sent, again = unpickle_run(pickle_run((captured, captured), {}))
    assert again is sent
    assert type(sent).__mro__[1:] == type(captured).__mro__[1:]
    assert sent.training
    assert [node.name for node in sent.graph.nodes] == [node.name for node in captured.graph.nodes]
    assert next(iter(sent.graph.nodes)).meta == {"noted": True}
    assert sent.meta["held"] == ("0.weight",)
    torch.testing.assert_close(sent.state_dict(), captured.state_dict(), rtol=0, atol=0)
    assert [name for name, _ in sent.named_parameters()] == [
        name for name, _ in captured.named_parameters()]
    x = torch.randn(5, 1, 6, 6)
    for mode in (True, False):
        outputs = []
        for network in (captured, sent):
            torch.manual_seed(1)
            outputs.append(network.train(mode)(x))
        assert torch.equal(*outputs)
