from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.core import Preprocessing
from edgewright.errors import DataError, ModelError, StorageError, TrainingError, UsageError
from edgewright.goals import Classification
from edgewright.task import Batch, DatasetSplit, ImageSplit, Task, TensorSplit
from edgewright.training import (
    Compute,
    ConstrainedObjective,
    CosineSchedule,
    GoalLoss,
    Objective,
    StepHook,
    Training,
    evaluate_module,
    train,
)

CPU = {"compute": "cpu"}
train_net = partial(train, exits=1)


def image_task(count: int = 96, size: int = 8) -> Any:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 60, (count, 1, size, size), dtype=torch.uint8, generator=generator)
    for label in range(3):
        pixels[labels == label, :, 2 * label:2 * label + 3, 1:-1] += 150
    recipe = Preprocessing(channels=1, height=size, width=size, mean=(0.3,), std=(0.3,))
    split = ImageSplit(pixels, labels, recipe, flip=True)
    third = count // 3
    return Task(split.select(range(third, count)), split.select(range(third)),
                split.select(range(1, third)))


class Net(nn.Module):
    """Convolution, batch norm, dropout, and an exit: all that a resumed run must restore."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(dropout)
        self.early = nn.Linear(8, 3)
        self.head = nn.Linear(8 * 16, 3)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.norm(self.conv(x)))
        early = self.early(x.mean((2, 3)))
        x = nn.functional.avg_pool2d(x, 2).flatten(1)
        return early, self.head(self.dropout(x))


def state_of(module: nn.Module) -> Any:
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a: Any, b: Any) -> Any:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns_and_records() -> None:
    module, task = Net(), image_task()
    before = evaluate_module(module, task.val, Classification(), exits=1)
    record = train_net(module, task, Training(epochs=12, batch_size=16, **CPU), GoalLoss(Classification()))
    after = evaluate_module(module, task.val, Classification(), exits=1)
    assert len(after) == 2
    assert after[-1].value > 0.9 > before[-1].value
    assert after[-1] == record.score
    assert after[-1].value == record.val_accuracy
    assert [e.epoch for e in record.history] == list(range(1, 13))
    assert record.history[-1].loss < 0.8 * record.history[0].loss
    assert record.seconds == pytest.approx(sum(e.seconds for e in record.history))
    assert not record.stopped_early
    assert not module.training


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant"])
def test_the_same_seed_gives_the_same_weights(optimizer: str, schedule: str) -> None:
    config = Training(epochs=2, batch_size=16, lr=0.01, optimizer=optimizer, schedule=schedule,
                      clip_norm=1.0, label_smoothing=0.1, **CPU)
    states = []
    for seed in (0, 0, 1):
        module = Net()
        train_net(module, image_task(), config, GoalLoss(Classification(), config.label_smoothing), seed=seed)
        states.append(state_of(module))
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_the_callers_random_state_is_unchanged() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    module, task = Net.__new__(Net), image_task()
    with torch.random.fork_rng():
        Net.__init__(module)
    train_net(module, task, Training(epochs=1, **CPU), GoalLoss(Classification()))
    assert torch.equal(torch.rand(3), expected)


class InterruptedRunError(Exception):
    pass


class StopAfter:
    """Interrupts a run once an epoch is done and written."""

    def __init__(self, epochs: Any, steps_into: int = 1) -> None:
        self.left, self.steps_into, self.stopped = epochs, steps_into, False
        self.notes: list[str] = []
        self.started: tuple[int, int, int] | None = None

    def start(self, epochs: Any, steps: Any, done: Any) -> None:
        self.started = (epochs, steps, done)

    def advance(self, samples: Any, loss: Any) -> None:
        if self.left == 0:
            self.steps_into -= 1
            if self.steps_into <= 0:
                raise InterruptedRunError

    def time_left(self, seconds: float) -> None:
        pass

    def epoch(self, record: Any) -> None:
        self.left -= 1

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize("arguments", [{}, {"optimizer": "adamw", "lr": 0.01,
                                            "schedule": CosineSchedule(warmup_epochs=1)},
                                       {"compute": Compute(accelerator="cpu", channels_last=False),
                                        "schedule": "one_cycle"}])
def test_an_interrupted_run_gives_the_same_weights(tmp_path: Path,
                                                   arguments: dict[str, Any]) -> None:
    config = Training(**{"epochs": 4, "batch_size": 16} | CPU | arguments)
    whole = Net()
    expected = train_net(whole, image_task(), config, GoalLoss(Classification()), seed=5)
    path = tmp_path / "sub" / "fit.ckpt"
    watcher = StopAfter(2, steps_into=2)
    with pytest.raises(InterruptedRunError):
        train_net(Net(), image_task(), config, GoalLoss(Classification()), seed=5, checkpoint=path, progress=watcher)
    assert watcher.stopped
    again, resumed = StopAfter(99), Net()
    record = train_net(resumed, image_task(), config, GoalLoss(Classification()), seed=5, checkpoint=path,
                       progress=again)
    assert same(state_of(whole), state_of(resumed))
    assert again.started == (4, 4, 2)
    assert record.notes == (f"resumed after epoch 2 from {path}",) == tuple(again.notes)
    untimed = [(e.epoch, e.loss, e.val_accuracy, e.lr) for e in record.history]
    assert untimed == [(e.epoch, e.loss, e.val_accuracy, e.lr) for e in expected.history]
    assert [p.name for p in path.parent.iterdir()] == ["fit.ckpt"]


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    config, path, first, second = Training(epochs=2, **CPU), tmp_path / "c", Net(), Net()
    record = train_net(first, image_task(), config, GoalLoss(Classification()), checkpoint=path)
    watcher = StopAfter(0)
    again = train_net(second, image_task(), config, GoalLoss(Classification()), checkpoint=path, progress=watcher)
    assert same(state_of(first), state_of(second))
    assert again.history == record.history


def other_weights() -> Any:
    module = Net()
    with torch.no_grad():
        module.head.bias.add_(1)
    return module


@pytest.mark.parametrize(("module", "config", "objective", "seed"), [
    (Net, {"lr": 0.02}, GoalLoss(Classification()), 0), (Net, {}, GoalLoss(Classification(), 0.1), 0), (Net, {}, GoalLoss(Classification()), 1),
    (other_weights, {}, GoalLoss(Classification()), 0),
])
def test_a_checkpoint_of_another_run_is_ignored(tmp_path: Path, module: Any, config: dict[str, Any],
                                                objective: Any, seed: int) -> None:
    path = tmp_path / "c"
    train_net(Net(), image_task(), Training(epochs=1, **CPU), GoalLoss(Classification()), checkpoint=path)
    settings = Training(epochs=1, **config, **CPU)
    fresh, found = module(), module()
    train_net(fresh, image_task(), settings, objective, seed=seed)
    record = train_net(found, image_task(), settings, objective, seed=seed, checkpoint=path)
    assert record.notes == (f"the checkpoint {path} belongs to a run with other settings, seed, data or "
                            "weights; training from the start",)
    assert same(state_of(fresh), state_of(found))


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_checkpoint_is_ignored(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "c"
    if content is None:
        torch.save({"format": 99}, path)
    else:
        path.write_bytes(content)
    record = train_net(Net(), image_task(), Training(epochs=1, **CPU), GoalLoss(Classification()), checkpoint=path)
    assert record.notes[0].startswith(f"the checkpoint {path} ")
    assert record.notes[0].endswith("training from the start")


def test_a_checkpoint_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write the checkpoint .*file/c"):
        train_net(Net(), image_task(), Training(epochs=1, **CPU), GoalLoss(Classification()),
                  checkpoint=tmp_path / "file" / "c")


FULL_DISK = """
import resource, sys, torch
from pathlib import Path
import edgewright as ew
from edgewright.errors import StorageError
x, y = torch.randn(40, 64), torch.arange(40) % 2
program = ew.Program.capture(torch.nn.Linear(64, 2), x)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    ew.fit(program, ew.Task((x, y), test=(x, y)), ew.Training(epochs=1, compute="cpu"),
           checkpoint=Path(sys.argv[1]))
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_is_an_error_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """torch's own file writer would end the process with "terminate called", exit code 134."""
    path = tmp_path / "c"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == StorageError.exit_code
    assert "terminate called" not in done.stderr
    assert re.fullmatch(rf"cannot write {path}: File too large; free \d+ bytes there or write to "
                        r"another disk\n", done.stdout)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


class Scripted(Objective):
    """Leaves the weights alone, so that the script alone decides the accuracy."""

    goal = Classification()

    def loss(self, outputs: Any, batch: Any) -> Any:
        return outputs[-1].sum() * 0 + 1


class Script(nn.Module):
    """ExitPredictions right for ``script[epoch]`` of the samples; an epoch is one training step."""

    epoch: Tensor

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("epoch", torch.tensor(-1))
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.epoch += 1
        right = x[:, 0] < self.script[max(int(self.epoch), 0)]
        return torch.stack([~right, right], dim=1).float() + self.weight


def run_script(script: Any, **arguments: Any) -> tuple[Any, ...]:
    x, y = torch.arange(10.0).view(10, 1), torch.ones(10, dtype=torch.long)
    module, task = Script(script), Task((x, y), (x, y), (x[1:], y[1:]))
    config = Training(epochs=len(script), batch_size=10, **arguments, **CPU)
    return module, train(module, task, config, Scripted())


def test_the_best_epoch_is_kept_and_the_latest_if_tied() -> None:
    module, record = run_script([2, 7, 4, 7, 5])
    assert [e.val_accuracy for e in record.history] == [0.2, 0.7, 0.4, 0.7, 0.5]
    assert record.kept_epoch == 4
    assert record.val_accuracy == 0.7
    assert int(module.epoch) == 3


def test_it_stops_after_patience_epochs_without_improvement() -> None:
    _, record = run_script([2, 7, 4, 7, 5, 9, 9], patience=3)
    assert len(record.history) == 5
    assert record.stopped_early
    assert record.kept_epoch == 4
    _, record = run_script([2, 7, 4, 7, 9, 5], patience=3)
    assert len(record.history) == 6
    assert not record.stopped_early


def test_a_non_finite_loss_ends_the_run_with_the_previous_weights() -> None:
    module = Net()
    before = state_of(module)
    with pytest.raises(TrainingError, match=(
            r"diverged in epoch 1 of 3, at step \d of 4: the loss is (nan|inf).* Lower lr "
            r"\(1e\+20\), add a warm-up to the schedule or set clip_norm\. The model holds the weights from "
            r"before the training")):
        train_net(module, image_task(), Training(epochs=3, lr=1e20, batch_size=16, **CPU), GoalLoss(Classification()))
    assert same(before, state_of(module))
    assert not module.training


class Explodes(Objective):
    goal = Classification()

    def __init__(self, at: Any, value: Any) -> None:
        self.calls, self.at, self.value = 0, at, value

    def loss(self, outputs: Any, batch: Any) -> Any:
        self.calls += 1
        loss = GoalLoss(Classification()).loss(outputs, batch)
        return loss * self.value if self.calls == self.at else loss


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_late_divergence_names_the_step_and_keeps_the_best_epoch(tmp_path: Path,
                                                                   value: Any) -> None:
    module, config = Net(), Training(epochs=4, batch_size=16, **CPU)
    with pytest.raises(TrainingError, match=r"epoch 3 of 4, at step 2 of 4: the loss is (nan|-inf)"
                       r".* weights of epoch \d"):
        train_net(module, image_task(), config, Explodes(10, value), checkpoint=tmp_path / "c")
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert (tmp_path / "c").exists()


def test_non_finite_weights_after_the_last_step_raise() -> None:
    class Poison(Objective):
        def loss(self, outputs: Any, batch: Any) -> Any:
            return (outputs[-1].sum() * 0).sqrt()  # finite, with a gradient that is not

    with pytest.raises(TrainingError, match=r"the weights are no longer finite|the loss is nan"):
        train_net(Net(), image_task(), Training(epochs=1, batch_size=64, **CPU), Poison())


def test_one_step_of_sgd_by_hand_without_decay_on_vectors() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 4), torch.arange(8) % 2
    module = nn.Linear(4, 2)
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    loss = nn.functional.cross_entropy(module(x), y)
    grads = torch.autograd.grad(loss, [module.weight, module.bias])
    config = Training(epochs=1, batch_size=8, lr=0.5, weight_decay=0.1, schedule="constant", **CPU)
    train(module, Task((x, y), (x, y), (x[1:], y[1:])), config, GoalLoss(Classification()))
    torch.testing.assert_close(module.weight, weight - 0.5 * (grads[0] + 0.1 * weight))
    torch.testing.assert_close(module.bias, bias - 0.5 * grads[1])


def test_clipping_bounds_the_step() -> None:
    torch.manual_seed(0)
    x, y = 100 * torch.randn(8, 4), torch.arange(8) % 2
    module = nn.Linear(4, 2)
    before = torch.cat([p.detach().clone().flatten() for p in module.parameters()])
    config = Training(epochs=1, batch_size=8, lr=1.0, weight_decay=0, clip_norm=0.25,
                      schedule="constant", **CPU)
    train(module, Task((x, y), (x, y), (x[1:], y[1:])), config,
          ConstrainedObjective(GoalLoss(Classification()), (StepHook(),)))  # which admits no weights of before it
    after = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.25, rel=1e-3)


def test_frozen_parameters_stay() -> None:
    module = Net()
    module.conv.requires_grad_(False)
    before = module.conv.weight.clone()
    train_net(module, image_task(), Training(epochs=1, **CPU), GoalLoss(Classification()))
    assert torch.equal(module.conv.weight, before)


def test_weights_end_contiguous_and_models_with_views_train() -> None:
    class Viewing(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.conv(x))
            return self.head(nn.functional.avg_pool2d(x, 2).view(len(x), -1))

    for module, exits in ((Net(), 1), (Viewing(), 0)):
        train(module, image_task(), Training(epochs=1, **CPU), GoalLoss(Classification()), exits=exits)
        assert all(p.is_contiguous() for p in module.parameters())


def test_channels_last_reaches_the_model() -> None:
    seen = []

    class Watching(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            seen.append((self.training, x.is_contiguous(memory_format=torch.channels_last)))
            return x.mean((2, 3))

    x, y = torch.randn(8, 3, 6, 6), torch.arange(8) % 4
    task = Task((x, y), (x, y), (x[1:], y[1:]))
    for wanted in (True, False):
        seen.clear()
        train(Watching(3, 4, 3), task, Training(epochs=1, compute=Compute(
            accelerator="cpu", channels_last=wanted)), GoalLoss(Classification()))
        assert {layout for training, layout in seen if training} == {wanted}


def test_a_model_that_rejects_channels_last_is_trained_contiguous() -> None:
    class Strict(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            if not x.is_contiguous():
                raise RuntimeError("this kernel reads rows")
            return super().forward(x).mean((2, 3))

    x, y = torch.randn(8, 3, 6, 6), torch.arange(8) % 4
    task = Task((x, y), (x, y), (x[1:], y[1:]))
    record = train(Strict(3, 4, 3), task, Training(epochs=1, **CPU),
                   GoalLoss(Classification()))
    assert math.isfinite(record.history[0].loss)


def test_a_last_batch_of_one_is_skipped() -> None:
    x, y = torch.randn(9, 4), torch.arange(9) % 2
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    task = Task((x, y), (x, y), (x[1:], y[1:]))
    record = train(module, task, Training(epochs=1, batch_size=4, **CPU), GoalLoss(Classification()))
    assert int(module.get_buffer("1.num_batches_tracked")) == 2
    assert len(record.history) == 1
    single = train(nn.Linear(4, 2), task, Training(epochs=1, batch_size=1, **CPU), GoalLoss(Classification()))
    assert math.isfinite(single.history[0].loss)


def test_several_inputs_and_a_dataset_train() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.linear(a + b)

    x, y = torch.randn(32, 2), torch.arange(32) % 2
    pair = TensorSplit((x, x), y)
    stream = DatasetSplit([((a, a), int(b)) for a, b in zip(x, y, strict=True)])
    modules = [Sum(), Sum()]
    modules[1].load_state_dict(modules[0].state_dict())
    for module, split in zip(modules, (pair, stream), strict=True):
        train(module, Task(split, split, pair.select([0])), Training(epochs=2, **CPU), GoalLoss(Classification()))
    assert same(state_of(modules[0]), state_of(modules[1]))


def test_labels_beyond_the_classes_raise_before_training() -> None:
    x, y = torch.randn(9, 4), torch.arange(9) % 3
    with pytest.raises(DataError, match=r"sample 2 of the train split has label 2; allowed: 0\.\.1"):
        train(nn.Linear(4, 2), Task((x, y), (x, y), (x[1:], y[1:])), Training(**CPU), GoalLoss(Classification()))


def test_invalid_modules_raise() -> None:
    class Wrong(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return {"logits": super().forward(x)}

    x, y = torch.randn(9, 4), torch.arange(9) % 2
    task = Task((x, y), (x, y), (x[1:], y[1:]))
    with pytest.raises(ModelError, match=r"the output 'logits' of the model is \(N, 1\) float32; "
                       r"expected floating-point logits"):
        train(Wrong(4, 1), task, Training(**CPU), GoalLoss(Classification()))
    with pytest.raises(UsageError, match="the model has no parameter that requires a gradient"):
        train(nn.Linear(4, 2).requires_grad_(False), task, Training(**CPU), GoalLoss(Classification()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_unavailable_accelerator_raises() -> None:
    with pytest.raises(UsageError, match="cannot train with accelerator='cuda'"):
        train_net(Net(), image_task(), Training(compute="cuda"), GoalLoss(Classification()))


def test_the_loss_is_the_mean_over_exits() -> None:
    torch.manual_seed(0)
    outputs, targets = (torch.randn(5, 3), torch.randn(5, 3)), torch.tensor([0, 1, 2, 0, 1])
    logs = [torch.log(torch.softmax(o.double(), 1)) for o in outputs]
    soft = torch.full((5, 3), 0.1 / 3).double()
    soft[torch.arange(5), targets] += 0.9
    expected = sum(-(soft * log).sum(1).mean() for log in logs) / 2
    batch = Batch((), targets, torch.arange(5))
    found = GoalLoss(Classification(), 0.1).loss(outputs, batch)
    assert float(found) == pytest.approx(float(expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["auto", "32-true", "bf16-mixed", "16-mixed"])
def test_it_trains_on_cuda_and_moves_back(precision: str, tmp_path: Path) -> None:
    module, task = Net(), image_task()
    config = Training(epochs=6, batch_size=16, compute=Compute(
        accelerator="cuda", precision=precision))
    with pytest.raises(InterruptedRunError):
        train_net(Net(), task, config, GoalLoss(Classification()), checkpoint=tmp_path / "c", progress=StopAfter(2))
    record = train_net(module, task, config, GoalLoss(Classification()), checkpoint=tmp_path / "c")
    assert record.notes[0].startswith("resumed after epoch 2")
    assert record.val_accuracy > 0.9
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    assert all(p.dtype == torch.float32 for p in module.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_divergence_on_cuda_names_the_step() -> None:
    config = Training(epochs=4, batch_size=16, compute=Compute(
        accelerator="cuda", precision="32-true"))
    with pytest.raises(TrainingError, match="epoch 3 of 4, at step 2 of 4: the loss is nan"):
        train_net(Net(), image_task(), config, Explodes(10, math.nan))
