"""The precision in which a training runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import Compute, GoalLoss, Training, has_bfloat16_instructions, train

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16_instructions(),
                                    reason="the CPU has no bfloat16 instructions")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x)
        return logits


@pytest.fixture
def task() -> Task:
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)
    return Task((x[:64], y[:64]), val=(x[64:80], y[64:80]), test=(x[80:], y[80:]))


def fit(task: Task, precision: Any, module: nn.Module | None = None) -> tuple[str, ...]:
    config = Training(epochs=1, compute=Compute(accelerator="cpu", precision=precision))
    return train(module or Net(), task, config, GoalLoss(Classification())).notes


def pretend(monkeypatch: pytest.MonkeyPatch, plain: float, mixed: float) -> None:
    """Let passes take these times."""
    monkeypatch.setattr(
        "edgewright.training._precision.time_passes",
        lambda *_: ([], mixed if torch.is_autocast_enabled("cpu") else plain))


@needs_bfloat16
def test_the_fastest_precision_is_the_one_measured(task: Task,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1.0, 0.5)
    assert fit(task, "fastest") == (
        "a pass with bfloat16 takes 0.50 times as long as one in float32: used",)
    pretend(monkeypatch, 1.0, 0.95)
    assert fit(task, "fastest") == (
        "a pass with bfloat16 takes 0.95 times as long as one in float32: not used",)


def test_without_bfloat16_instructions_nothing_is_measured(
        task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.training._precision.has_bfloat16_instructions", lambda: False)
    pretend(monkeypatch, 1.0, 0.5)
    assert fit(task, "fastest") == ()


@needs_bfloat16
def test_an_operator_without_bfloat16_is_trained_in_float32(
        task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("not implemented for BFloat16")

    monkeypatch.setattr("edgewright.training._precision.time_passes", fail)
    assert fit(task, "fastest") == ("bfloat16 not used: not implemented for BFloat16",)


def test_timing_changes_nothing(task: Task) -> None:
    module, before = Net(), Net()
    before.load_state_dict(module.state_dict())
    seen: list[torch.dtype] = []
    module.layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    fit(task, "fastest", module)
    assert set(seen) == {torch.float32}
    assert module.layer.weight.dtype == torch.float32


def test_inputs_are_not_rounded_in_mixed_precision(task: Task) -> None:
    module, seen = Net(), []
    module.layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    fit(task, "bf16-mixed", module)
    assert set(seen) == {torch.float32}


def test_a_captured_network_trains_in_mixed_precision(task: Task) -> None:
    program = Program.capture(Net(), torch.zeros(2, 4))
    assert fit(task, "bf16-mixed", program.module(train=True)) == ()
