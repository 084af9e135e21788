"""Hooks around every step: order, what they see, what is kept, and how a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.goals import Classification
from edgewright.graph import mark_sparse
from edgewright.program import Program
from edgewright.task import Batch, Task
from edgewright.training import ConstrainedObjective, GoalLoss, Step, StepHook, Training, train

CPU = {"compute": "cpu", "augment": False}


@pytest.fixture
def task() -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48, 4, generator=generator)
    y = (x[:, 0] > 0).long()
    return Task((x[:32], y[:32]), val=(x[32:40], y[32:40]), test=(x[40:], y[40:]))


def net() -> Any:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


class Watch(StepHook):
    """Notes what it sees; counts the steps in its state."""

    def __init__(self, settles_at: int = 0) -> None:
        self.seen: list[Any] = []
        self.settles_at, self.count = settles_at, torch.zeros(())

    def start(self, module: nn.Module) -> None:
        self.weight = module.get_parameter("0.weight")

    def before_step(self, step: Any) -> None:
        assert not torch.is_grad_enabled()
        assert self.weight.grad is not None
        self.seen.append(("before", step, self.weight.grad.norm().item(),
                          self.weight.detach().clone()))

    def after_step(self, step: Any) -> None:
        self.seen.append(("after", step, None, self.weight.detach().clone()))
        self.count += 1

    def is_settled(self, step: Any) -> bool:
        return step.index >= self.settles_at

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state(self, state: Any) -> None:
        self.count.copy_(state["count"])


def run(task: Task, *hooks: Any, module: Any = None, checkpoint: Any = None, progress: Any = None,
        **settings: Any) -> tuple[Any, ...]:
    module = net() if module is None else module
    config = Training(**{"epochs": 3, "batch_size": 8, **CPU, **settings})
    record = train(module, task, config, ConstrainedObjective(GoalLoss(Classification()), hooks), checkpoint=checkpoint,
                   progress=progress)
    return module, record


def test_hooks_run_before_and_after_every_step(task: Any) -> None:
    hook = Watch()
    run(task, hook, schedule="constant", clip_norm=1e-3)
    assert [(side, step.index) for side, step, *_ in hook.seen] == [
        (side, index) for index in range(12) for side in ("before", "after")]
    assert hook.seen[0][1] == Step(index=0, total=12, lr=0.05)
    assert hook.seen[-1][1].progress == 1
    assert hook.seen[0][2] > 1e-3  # not clipped yet
    assert not torch.equal(hook.seen[0][3], hook.seen[1][3])
    assert torch.equal(hook.seen[1][3], hook.seen[2][3])


def test_an_empty_hook_changes_nothing(task: Any) -> None:
    with_hook, _ = run(task, StepHook())
    without = net()
    train(without, task, Training(epochs=3, batch_size=8, **CPU), GoalLoss(Classification()))
    torch.testing.assert_close(with_hook.state_dict(), without.state_dict(), rtol=0, atol=0)


def test_only_settled_epochs_are_selected(task: Any) -> None:
    _, free = run(task, Watch(), epochs=6, lr=0.3)
    hook = Watch(settles_at=4 * 4)
    module, record = run(task, hook, epochs=6, lr=0.3, patience=1)
    assert [epoch.settled for epoch in record.history][:4] == [False] * 4
    assert free.kept_epoch <= 6
    assert record.kept_epoch >= 5
    kept = hook.seen[2 * 4 * record.kept_epoch - 1][3]
    assert torch.equal(module[0].weight, kept)


def test_the_last_epoch_counts_even_if_unsettled(task: Any) -> None:
    _, record = run(task, Watch(settles_at=10**9))
    assert [epoch.settled for epoch in record.history] == [False, False, True]
    assert record.kept_epoch == 3


class InterruptedRunError(Exception):
    pass


class StopInSecondEpoch:
    def __init__(self) -> None:
        self.steps = 0

    def advance(self, samples: Any, loss: Any) -> None:
        self.steps += 1
        if self.steps == 6:
            raise InterruptedRunError

    def start(self, *told: Any) -> None:
        pass

    epoch = note = stop = time_left = start


def test_the_state_of_hooks_survives_an_interruption(task: Any, tmp_path: Path) -> None:
    path = tmp_path / "c"
    with pytest.raises(InterruptedRunError):
        run(task, Watch(), checkpoint=path, progress=StopInSecondEpoch())
    hook = Watch()
    resumed, record = run(task, hook, checkpoint=path)
    assert record.notes == (f"resumed after epoch 1 from {path}",)
    assert int(hook.count) == 12
    whole, _ = run(task, Watch())
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_with_other_hooks_is_ignored(task: Any, tmp_path: Path) -> None:
    run(task, checkpoint=tmp_path / "c")
    _, record = run(task, Watch(), checkpoint=tmp_path / "c")
    assert record.notes == (f"the checkpoint {tmp_path / 'c'} belongs to a run with other settings, seed, "
                            "data or weights; training from the start",)


def test_hooks_add_up() -> None:
    first, second = StepHook(), Watch()
    objective = ConstrainedObjective(ConstrainedObjective(GoalLoss(Classification(), 0.1), (first,)), (second,))
    assert objective.hooks == (first, second)
    smoothed = Classification(label_smoothing=0.1).identity
    assert objective.name == f"GoalLoss({smoothed}) under StepHook under Watch"
    logits, batch = torch.randn(3, 2), Batch((), torch.tensor([0, 1, 1]), torch.arange(3))
    assert torch.equal(objective.loss((logits,), batch), GoalLoss(Classification(), 0.1).loss((logits,), batch))


class Inside(nn.Module):
    """A captured network within another module."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "adamw", "lr": 0.01}, {"clip_norm": 0.1}])
@pytest.mark.parametrize("wrap", [Inside, lambda body: body])
def test_only_sparse_tensors_keep_their_zeros(task: Any, settings: dict[str, Any],
                                              wrap: Any) -> None:
    program = Program.capture(net(), torch.zeros(1, 4))
    with torch.no_grad():
        for tensor in program.graph_module.parameters():
            tensor.view(-1)[::2] = 0
    mark_sparse(program.graph_module, ["0.weight"])
    body = program.module(train=True)
    run(task, module=wrap(body), **settings)
    weights = dict(body.named_parameters())
    assert (weights["0.weight"].view(-1)[::2] == 0).all()
    assert (weights["0.weight"].view(-1)[1::2] != 0).all()
    assert (weights["2.weight"].view(-1)[::2] != 0).any()
    assert not torch.equal(weights["0.weight"], program.state_dict()["0.weight"])
