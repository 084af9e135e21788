"""A run that is stopped anywhere ends as if it had not been."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.core import Preprocessing
from edgewright.errors import TrainingError
from edgewright.goals import Classification
from edgewright.task import DatasetSplit, ImageSplit, Task
from edgewright.training import (
    ConstrainedObjective,
    GoalLoss,
    PlateauSchedule,
    StepHook,
    Training,
    _loop,
    train,
)
from edgewright.training._losses import Losses, PartialEpoch

STEPS = 5  # 40 samples, 8 a step


class InterruptedRunError(Exception):
    pass


class StopAt:
    """Interrupts a run when it tells of a step; 0 never."""

    def __init__(self, step: int = 0) -> None:
        self.step, self.told = step, 0
        self.started: tuple[Any, ...] | None = None
        self.notes: list[str] = []

    def start(self, *told: Any) -> None:
        self.started = told

    def advance(self, samples: Any, loss: Any) -> None:
        self.told += 1
        if self.told == self.step:
            raise InterruptedRunError

    def note(self, text: str) -> None:
        self.notes.append(text)

    def time_left(self, seconds: float) -> None:
        pass

    def epoch(self, record: Any) -> None:
        pass

    def stop(self) -> None:
        pass


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3),
                         nn.Flatten(), nn.Linear(96, 2))


def task() -> Any:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (56, 1, 6, 6), dtype=torch.uint8, generator=generator)
    recipe = Preprocessing(channels=1, height=6, width=6, mean=(0.5,), std=(0.3,))
    whole = ImageSplit(pixels, (pixels[:, 0, 2, 2] > 127).long(), recipe)
    return Task(whole.select(range(40)), whole.select(range(40, 48)), whole.select(range(48, 56)))


def config(**settings: Any) -> Any:
    return Training(**{"epochs": 3, "batch_size": 8, "compute": "cpu"} | settings)


def untimed(record: Any) -> Any:
    return [(e.epoch, e.loss, e.val_accuracy, e.lr, e.settled) for e in record.history]


def assert_same(module: nn.Module, other: Any) -> None:
    torch.testing.assert_close(module.state_dict(), other.state_dict(), rtol=0, atol=0)


SETTINGS = [{}, {"optimizer": "adamw", "lr": 0.01, "schedule": PlateauSchedule(wait_epochs=1)},
            {"ema": 0.9}, {"augment": {"mixup": 1.0, "cutmix": 1.0}}, {"accumulate": 2, "clip_norm": 0.5}]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("stop", [3, 5, 9])
def test_a_run_resumed_within_an_epoch_gives_the_same_weights(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], stop: int) -> None:
    monkeypatch.setattr(_loop, "CHECKPOINT_SECONDS", 0)
    whole, path = net(), tmp_path / "c"
    expected = train(whole, task(), config(**settings), GoalLoss(Classification()), seed=3)
    with pytest.raises(InterruptedRunError):
        train(net(), task(), config(**settings), GoalLoss(Classification()), seed=3, checkpoint=path,
              progress=StopAt(stop))
    resumed, watcher = net(), StopAt()
    record = train(resumed, task(), config(**settings), GoalLoss(Classification()), seed=3, checkpoint=path,
                   progress=watcher)
    assert_same(whole, resumed)
    assert untimed(record) == untimed(expected)
    epochs, steps = divmod(stop - 1, STEPS)  # written once the step after it has been told
    assert record.notes == (f"resumed after step {steps} of epoch {epochs + 1} from {path}",)
    assert watcher.told == 3 * STEPS - stop + 1
    assert watcher.started == (3, STEPS, epochs)


def test_a_run_resumes_from_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loop, "CHECKPOINT_SECONDS", 0)
    whole, resumed = net(), net()
    expected = train(whole, task(), config(), GoalLoss(Classification()))
    places = []
    for _ in range(3 * STEPS):
        watcher = StopAt(2)
        try:
            record = train(resumed, task(), config(), GoalLoss(Classification()), checkpoint=tmp_path / "c",
                           progress=watcher)
        except InterruptedRunError:
            places.append(watcher.notes)
            resumed = net()
    assert_same(whole, resumed)
    assert untimed(record) == untimed(expected)
    assert len(places) == 3 * STEPS - 1
    assert all(a != b for a, b in pairwise(places))
    assert record.seconds > max(e.seconds for e in record.history)


def test_within_an_epoch_checkpoints_are_written_at_time_intervals(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c"
    with pytest.raises(InterruptedRunError):
        train(net(), task(), config(), GoalLoss(Classification()), checkpoint=path, progress=StopAt(STEPS - 1))
    assert not path.exists()
    monkeypatch.setattr(_loop, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(InterruptedRunError):
        train(net(), task(), config(), GoalLoss(Classification()), checkpoint=path, progress=StopAt(STEPS - 1))
    assert path.exists()


class Momentum(StepHook):
    """Holds what no one but its state can bring back."""

    def __init__(self) -> None:
        self.mean = torch.zeros(())

    def start(self, module: nn.Module) -> None:
        *_, last = module.children()
        self.weight = last.get_parameter("weight")

    def before_step(self, step: Any) -> None:
        assert self.weight.grad is not None
        self.mean = 0.9 * self.mean + self.weight.grad.mean()
        self.weight.grad += self.mean

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state(self, state: Any) -> None:
        self.mean = state["mean"]


def test_hooks_and_random_datasets_are_resumed(tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> Any:
    class Noisy(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: Any) -> tuple[Any, ...]:
            return torch.full((3,), float(index % 2)) + 0.1 * torch.randn(3), index % 2

    def run(module: nn.Module, **arguments: Any) -> Any:
        split = DatasetSplit(Noisy())
        still = (torch.eye(3)[:2], torch.tensor([0, 1]))
        objective = ConstrainedObjective(GoalLoss(Classification()), (Momentum(),))
        return train(module, Task(split, still, (still[0] + 1, still[1])), config(), objective,
                     **arguments)

    monkeypatch.setattr(_loop, "CHECKPOINT_SECONDS", 0)
    whole, resumed = (nn.Sequential(nn.Linear(3, 2)) for _ in range(2))
    stopped = nn.Sequential(nn.Linear(3, 2))
    for module in (stopped, resumed):
        module.load_state_dict(whole.state_dict())
    expected = run(whole)
    with pytest.raises(InterruptedRunError):
        run(stopped, checkpoint=tmp_path / "c", progress=StopAt(8))
    assert untimed(run(resumed, checkpoint=tmp_path / "c")) == untimed(expected)
    assert_same(whole, resumed)


KILLED = dedent("""
    import sys, time, torch
    from torch import nn
    from pathlib import Path
    from edgewright.goals import Classification
    from edgewright.task import Task
    from edgewright.training import Augmentation, GoalLoss, NoProgress, Training, _loop, train

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, module = torch.randn(40, 4), nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    y = (x[:, 0] > 0).long()
    _loop.CHECKPOINT_SECONDS = 0

    class Waits:
        start = epoch = note = stop = lambda self, *told: None
        told = 0

        def advance(self, samples, loss):
            self.told += 1
            if self.told == int(sys.argv[2]):
                print("there", flush=True)
                time.sleep(600)

    config = Training(epochs=3, batch_size=8, compute="cpu", ema=0.9,
                      augment=Augmentation(mixup=0.2))
    record = train(module, Task((x, y), (x[:20], y[:20]), (x[20:], y[20:])), config, GoalLoss(Classification()),
                   checkpoint=Path(sys.argv[1]), progress=Waits())
    torch.save([module.state_dict(), record.notes,
                [(e.loss, e.val_accuracy) for e in record.history]], sys.argv[3])
""")


def test_a_run_killed_within_an_epoch_gives_the_same_weights(tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loop, "CHECKPOINT_SECONDS", 0)  # the script sets it too
    script = tmp_path / "run.py"
    script.write_text(KILLED)
    arguments = [str(script), str(tmp_path / "killed.ckpt"), "8", str(tmp_path / "killed.pt")]
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.pt").exists()
    for name in ("killed", "whole"):
        monkeypatch.setattr(sys, "argv", [
            str(script), str(tmp_path / f"{name}.ckpt"), "0", str(tmp_path / f"{name}.pt")])
        runpy.run_path(str(script))
    (weights, notes, history), (expected, _, whole) = (
        torch.load(tmp_path / f"{name}.pt") for name in ("killed", "whole"))
    assert notes == (f"resumed after step 2 of epoch 2 from {tmp_path / 'killed.ckpt'}",)
    assert history == whole
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)


def test_non_finite_weights_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spoils(StepHook):
        def start(self, module: nn.Module) -> None:
            *_, last = module.children()
            self.weight = last.get_parameter("weight")

        def after_step(self, step: Any) -> None:
            if step.index == 7:
                self.weight.fill_(float("nan"))

    monkeypatch.setattr(_loop, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(Exception, match=(
            r"diverged in epoch 2 of 3, at step 3 of 5: the weights are no longer finite")):
        train(net(), task(), config(), ConstrainedObjective(GoalLoss(Classification()), (Spoils(),)),
              checkpoint=tmp_path / "c")
    found = torch.load(tmp_path / "c", weights_only=True)
    assert found["partial"]["steps"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in found["module"].values())


def diverged(step: int, what: str) -> TrainingError:
    return TrainingError(f"{step}: {what}")


def test_losses_accumulate_at_any_reading_interval() -> None:
    values = torch.rand(50).tolist()
    sizes = [8] * 49 + [3]
    expected = sum(a * b for a, b in zip(values, sizes, strict=True)) / sum(sizes)
    for device in ("cpu", "cuda"):  # read one by one, and several at a time
        for parts in (1, 2, 7):
            so_far = PartialEpoch()
            for part in range(parts):
                losses = Losses(so_far, torch.device(device), diverged)
                for index in range(part * 50 // parts, (part + 1) * 50 // parts):
                    losses.add(torch.tensor(values[index]), sizes[index])
                so_far = losses.so_far()
            assert losses.mean() == pytest.approx(expected, rel=1e-6)
            assert (so_far.steps, so_far.samples) == (50, 395)


def test_a_late_reading_names_the_right_step() -> None:
    losses = Losses(PartialEpoch(steps=3), torch.device("cuda"),
                    diverged)
    for value in (1.0, float("inf"), 2.0):
        losses.add(torch.tensor(value), 4)
    with pytest.raises(TrainingError, match="4: the loss is inf"):
        losses.mean()
