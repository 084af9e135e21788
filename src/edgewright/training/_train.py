"""The one fit loop."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, AdamW, Optimizer

from edgewright.errors import TrainingError, UsageError
from edgewright.task import Batch, Task, View
from edgewright.training._checkpoint import (
    Checkpoint,
    fingerprint_of,
    load_checkpoint,
    snapshot,
)
from edgewright.training._config import Training
from edgewright.training._constrained import Constrained
from edgewright.training._evaluate import device_of, evaluate_module, on_device
from edgewright.training._keep_zeros import KeepZeros
from edgewright.training._memory_format import fastest_format, formatted
from edgewright.training._objective import Objective, as_outputs
from edgewright.training._progress import NoProgress, Progress
from edgewright.training._record import EpochRecord, TrainingRecord, epochs_without_gain
from edgewright.training._schedule import learning_rate
from edgewright.training._step_hook import Step

_STEPS_A_CHECK: Final = 20  # reading a loss off an accelerator waits for it


def train(module: nn.Module, task: Task, config: Training, objective: Objective, *, seed: int = 0,
          checkpoint: Path | None = None, progress: Progress | None = None) -> TrainingRecord:
    """Train a module in place, and leave it with the weights of its best epoch.

    The best epoch is the one with the highest validation accuracy of the last output, the latest
    of equals, once the objective's hooks have settled. What a captured network holds sparse keeps
    its zeros. The module ends in evaluation mode, on the device it came from. The same seed,
    machine and starting weights give the same weights, whether or not the run was interrupted.

    Args:
        module: Takes the task's inputs; returns logits, or a tuple of them (one an exit).
        task: Trained on ``train``, selected on ``val``.
        config: Optimiser, schedule, precision.
        objective: What to minimise; its hooks act around every step.
        seed: Of the order of samples, their augmentation, and dropout.
        checkpoint: File written after every epoch, and resumed from where it is of this very run;
            one of another run is not used, and the record says so.
        progress: Is told of every step.

    Raises:
        TrainingError: The loss is no longer finite; the module then holds its last good weights.
        DataError: A sample or a label cannot be used.
        ModelError: The module does not return logits.
        UsageError: The accelerator is not there, or the module has nothing to train.
        StorageError: The checkpoint cannot be written.
    """
    told: Progress = NoProgress() if progress is None else progress
    objective = Constrained(objective, (KeepZeros(module),))
    home = device_of(module)
    sizes = (len(task.train), len(task.val))
    fingerprint = fingerprint_of(module, config, objective, seed, sizes) if checkpoint else ""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.callback(told.stop)
        stack.callback(_bring_home, module, objective, home)
        fabric = _fabric(config)
        module.to(fabric.device)
        objective.to(fabric.device)
        example = task.train.example(2)
        example = tuple(tensor.to(fabric.device) for tensor in example)
        _check_labels(module, example, task)
        memory_format = stack.enter_context(
            fastest_format(module, example, channels_last=config.channels_last))
        loop = _Loop(fabric, module, task, config, objective, seed, memory_format)
        return loop.run(checkpoint, fingerprint, told)


@final
@dataclass
class _Loop:
    """The state of one run: weights, optimiser, and what is known of the epochs so far."""

    fabric: Fabric
    module: nn.Module
    task: Task
    config: Training
    objective: Objective
    seed: int
    memory_format: torch.memory_format
    history: tuple[EpochRecord, ...] = ()

    def __post_init__(self) -> None:
        self.model, self.optimizer = self.fabric.setup(
            self.module, _optimizer(self.module, self.config))
        self.steps = _steps(len(self.task.train), self.config.batch_size)
        self.best = snapshot(self.module)
        for hook in self.objective.hooks:
            hook.start(self.module)

    def run(self, path: Path | None, fingerprint: str, progress: Progress) -> TrainingRecord:
        notes = [] if path is None else self._resume(path, fingerprint)
        for note in notes:
            progress.note(note)
        progress.start(self.config.epochs, self.steps, len(self.history))
        try:
            while not self._is_over():
                self._epoch(progress)
                if path is not None:
                    self._checkpoint(fingerprint).save(path)
        finally:
            self.module.load_state_dict(self.best)
            self.module.eval()
        return TrainingRecord(self.history, len(self.history) < self.config.epochs, tuple(notes))

    def _is_over(self) -> bool:
        if len(self.history) == self.config.epochs:
            return True
        patience = self.config.patience
        return bool(self.history) and patience is not None and (
            epochs_without_gain(self.history) >= patience)

    def _epoch(self, progress: Progress) -> None:
        since = time.perf_counter()
        epoch = len(self.history)
        torch.manual_seed(_epoch_seed(self.seed, epoch))
        loss = self._train_epoch(epoch, progress)
        with self.fabric.autocast():
            accuracy = evaluate_module(self.module, self.task.val, device=self.fabric.device)[-1]
        last = self._step_at(epoch, self.steps - 1)
        settled = epoch + 1 == self.config.epochs or all(
            hook.settled(last) for hook in self.objective.hooks)
        record = EpochRecord(epoch + 1, loss, accuracy, last.lr, time.perf_counter() - since,
                             settled)
        self.history = (*self.history, record)
        if settled and self._best_epoch() == record.epoch:
            self.best = snapshot(self.module)
        progress.epoch(record)

    def _train_epoch(self, epoch: int, progress: Progress) -> float:
        self.module.train()
        losses = _Losses(self, epoch)
        batches = self.task.train.batches(
            self.config.batch_size, shuffle_seed=_epoch_seed(self.seed, epoch),
            view=View(_epoch_seed(self.seed, epoch)) if self.config.augment else None)
        for index, batch in zip(range(self.steps), batches, strict=False):
            step = self._step_at(epoch, index)
            for group in self.optimizer.param_groups:
                group["lr"] = step.lr
            losses.add(self._step(batch, step), len(batch.targets))
            progress.advance(len(batch.targets), losses.latest)
        mean = losses.mean()
        if not all(bool(torch.isfinite(p).all()) for p in self.module.parameters()):
            raise self.diverged(epoch, self.steps - 1, "the weights are no longer finite")
        return mean

    def _step_at(self, epoch: int, index: int) -> Step:
        index += epoch * self.steps
        return Step(index, self.config.epochs * self.steps,
                    learning_rate(self.config, index, self.steps))

    def _step(self, batch: Batch, step: Step) -> Tensor:
        batch = on_device(batch, self.fabric.device)
        batch = batch._replace(inputs=formatted(batch.inputs, self.memory_format))
        outputs = as_outputs(self.model(*batch.inputs))
        with self.fabric.autocast():
            loss = self.objective.loss(outputs, batch)
        self.fabric.backward(loss)
        with torch.no_grad():
            self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
            for hook in self.objective.hooks:
                hook.before_step(step)
            if self.config.clip_norm is not None:
                clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
            self.optimizer.step()
            for hook in self.objective.hooks:
                hook.after_step(step)
        self.optimizer.zero_grad()
        return loss.detach()

    def _best_epoch(self) -> int:
        return TrainingRecord(self.history, stopped_early=False).best_epoch

    def diverged(self, epoch: int, step: int, what: str) -> TrainingError:
        kept = (f"of epoch {self._best_epoch()}" if any(r.settled for r in self.history) else
                "from before the training")
        return TrainingError(
            f"training diverged in epoch {epoch + 1} of {self.config.epochs}, at step {step + 1} "
            f"of {self.steps}: {what}. Lower lr ({self.config.lr:g}), add warmup_epochs or set "
            f"clip_norm. The model holds the weights {kept}")

    def _resume(self, path: Path, fingerprint: str) -> list[str]:
        found, reason = load_checkpoint(path, fingerprint)
        if found is None:
            return [reason] if reason else []
        self.module.load_state_dict(found.module)
        self.optimizer.load_state_dict(found.optimizer)
        self.fabric.strategy.precision.load_state_dict(found.precision)
        for hook, state in zip(self.objective.hooks, found.hooks, strict=True):
            hook.load_state(state)
        self.best, self.history = found.best, found.history
        return [f"resumed after epoch {len(found.history)} from {path}"]

    def _checkpoint(self, fingerprint: str) -> Checkpoint:
        return Checkpoint(fingerprint, self.module.state_dict(), self.best,
                          self.optimizer.state_dict(), self.fabric.strategy.precision.state_dict(),
                          [hook.state() for hook in self.objective.hooks], self.history)


@final
class _Losses:
    """The losses of an epoch; finds the first that is not finite, in batches to save waiting."""

    def __init__(self, loop: _Loop, epoch: int) -> None:
        self._loop, self._epoch = loop, epoch
        self._every = 1 if loop.fabric.device.type == "cpu" else _STEPS_A_CHECK
        self._pending: list[Tensor] = []
        self._known: list[float] = []
        self._samples: list[int] = []

    @property
    def latest(self) -> float:
        return self._known[-1] if self._known else float("nan")

    def add(self, loss: Tensor, samples: int) -> None:
        self._pending.append(loss)
        self._samples.append(samples)
        if len(self._pending) >= self._every:
            self._check()

    def mean(self) -> float:
        self._check()
        weighted = (a * b for a, b in zip(self._known, self._samples, strict=True))
        return sum(weighted) / sum(self._samples)

    def _check(self) -> None:
        values = [] if not self._pending else torch.stack(self._pending).float().tolist()
        self._pending.clear()
        for value in values:
            if value - value != 0:  # NaN, or an infinity
                raise self._loop.diverged(self._epoch, len(self._known), f"the loss is {value}")
            self._known.append(value)


def _fabric(config: Training) -> Fabric:
    try:
        return Fabric(accelerator=config.accelerator, devices=1,
                      precision=config.resolved_precision())
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"cannot train with accelerator={config.accelerator!r} and precision="
                         f"{config.precision!r} on this machine: {error}") from error


def _optimizer(module: nn.Module, config: Training) -> Optimizer:
    trainable = [p for p in module.parameters() if p.requires_grad]
    if not trainable:
        raise UsageError(f"{type(module).__name__} has no parameter that requires a gradient; "
                         "there is nothing to train")
    groups = [{"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
              {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr)
    return SGD(groups, lr=config.lr, momentum=config.momentum)


def _check_labels(module: nn.Module, example: tuple[Tensor, ...], task: Task) -> None:
    was_training = module.training
    module.eval()
    with torch.inference_mode():
        outputs = as_outputs(module(*example))
    module.train(was_training)
    task.check(outputs[-1].shape[-1])


def _bring_home(module: nn.Module, objective: Objective, home: torch.device) -> None:
    module.to(home)
    objective.to(home)


def _steps(samples: int, batch_size: int) -> int:
    leaves_one = samples > batch_size and samples % batch_size == 1
    return math.ceil(samples / batch_size) - leaves_one


def _epoch_seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) % 2**63
