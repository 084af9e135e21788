"""The training loop: epochs, checkpoints, and the weights of the best epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Final, final

import torch
from torch import Tensor, nn

from edgewright.errors import TrainingError
from edgewright.task import Batch
from edgewright.training._average import check_hooks
from edgewright.training._checkpoint import Checkpoint, load_checkpoint, snapshot
from edgewright.training._losses import Losses, PartialEpoch
from edgewright.training._progress import Progress
from edgewright.training._record import EpochRecord, TrainingRecord, epochs_without_improvement
from edgewright.training._run import Run
from edgewright.training._schedule import Position
from edgewright.training._score import Score
from edgewright.training._seeds import reseed, step_seed
from edgewright.training._sharding import DataShard
from edgewright.training._step_hook import Step
from edgewright.training._stored_targets import count_stored_views
from edgewright.training._time_limit import TimeLimit, TimePlan
from edgewright.training._updater import Updater

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECKPOINT_SECONDS: Final = 60.0  # interval within an epoch; the most that an interruption loses


@final
@dataclass
class Loop:
    """The state of one run: weights, optimizer, and the record of the epochs so far.

    Attributes:
        run: What to train, and how.
        fabric: The device.
        updates: Performs the optimizer steps.
        fingerprint: Identifies the run in its checkpoint.
        notes: Notes for the record, for example about compilation.
        history: The completed epochs.
        partial: Progress within the current epoch, after an interruption.
        start: Score of the initial weights, if they may be the result.
        best: The best weights so far.
        saved_at: When the last checkpoint was written, in seconds of `time.perf_counter`.
        plan: What a time limit leaves, as of the current step.
        last: The last step, if one was taken since the start or the interruption.
    """

    run: Run
    fabric: Fabric
    updates: Updater
    fingerprint: str
    notes: tuple[str, ...] = ()
    history: tuple[EpochRecord, ...] = ()
    partial: PartialEpoch = field(default_factory=PartialEpoch)
    start: Score | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    saved_at: float = 0.0
    plan: TimePlan = field(default_factory=TimePlan)
    last: Step | None = None

    @cached_property
    def shard(self) -> DataShard:
        """This device's shard of the training samples."""
        return DataShard(self.run.task.train, self.run.config, self.run.seed,
                     count_stored_views(self.run.objective), self.fabric.global_rank,
                     self.fabric.world_size)

    def train(self, progress: Progress) -> TrainingRecord:
        """Run all epochs, or the remaining ones of an interrupted run."""
        self._start()
        limit = self.run.limit
        notes = [*self.notes, *self._resume_or_score()]
        for note in notes:
            progress.note(note)
        if limit is not None and not self.history and not self.partial.steps:
            limit.require_step()
        progress.start(self.run.config.epochs, self.shard.steps, len(self.history))
        self._report_time(progress)
        try:
            while not self._is_over():
                self._epoch(progress)
        finally:
            self.run.module.load_state_dict(self.best)
            self.run.module.eval()
        if not self._record.kept_epoch:
            notes.append(f"no epoch was as good as the initial weights ({self.start}): kept those")
            progress.note(notes[-1])
        is_whole = len(self.history) == self.run.config.epochs or (
            limit is not None and limit.is_over)
        return replace(self._record, stopped_early=not is_whole, notes=tuple(notes))

    def _start(self) -> None:
        """Store the initial weights and start the hooks."""
        self.best, self.saved_at = snapshot(self.run.module), time.perf_counter()
        if self.updates.average is not None:
            check_hooks(self.run.objective.hooks, self._step_at(0))
        for hook in self.run.objective.hooks:
            hook.start(self.run.module)

    def _is_over(self) -> bool:
        if len(self.history) == self.run.config.epochs:
            return True
        if self.run.limit is not None and self.run.limit.is_over and not self.partial.steps:
            return True
        patience = self.run.config.patience
        return bool(self.history) and patience is not None and (
            epochs_without_improvement(self.history) >= patience)

    def _epoch(self, progress: Progress) -> None:
        since = time.perf_counter() - self.partial.seconds
        loss = self._train_epoch(progress)
        with self._closing():
            score = self._validate(self._result)
            last = self.last or self._step_at(self.partial.steps - 1)
            number = len(self.history) + 1
            settled = self._ends_with(number) or all(
                hook.is_settled(last) for hook in self.run.objective.hooks)
            record = EpochRecord(number, loss, score, last.lr, time.perf_counter() - since, settled)
            self.history, self.partial = (*self.history, record), PartialEpoch()
            if settled and self._record.kept_epoch == number:
                self.best = snapshot(self._result)
            progress.epoch(record)
            self._save()

    def _ends_with(self, epoch: int) -> bool:
        """Whether an epoch that was validated is the last one."""
        limit = self.run.limit
        if limit is not None and not self._make_plan(limit).has_step:
            limit.is_over = True
        return epoch == self.run.config.epochs or (limit is not None and limit.is_over)

    def _train_epoch(self, progress: Progress) -> float:
        self.run.module.train()
        rank, began = self.fabric.global_rank, time.perf_counter() - self.partial.seconds
        losses = Losses(self.partial, self.fabric.device, self._divergence_error)
        batches, index = self._batches(), self.partial.steps - 1
        for index in self._indices():
            self.last = step = self._step_at(index)
            samples = self.shard.samples(index % self.shard.steps)
            reseed(self.fabric.device, step_seed(self.run.seed, step.index, rank))
            losses.add(self.updates(next(batches), step, samples), samples)
            progress.advance(samples, losses.latest)
            self._report_time(progress)
            now = time.perf_counter()
            if now - self.saved_at >= CHECKPOINT_SECONDS and index + 1 != self.shard.steps:
                self.partial = replace(losses.so_far(), seconds=now - began)
                self._check_weights(index)
                self._save()
        mean = losses.mean()
        self._check_weights(index)
        return mean

    def _indices(self) -> Iterator[int]:
        """Indices of the epoch's steps that are left; before a time limit, only those that fit.

        The last epoch before a limit may have more steps than others; see `TimePlan.has_epoch`.
        """
        limit, index = self.run.limit, self.partial.steps
        if limit is None:
            yield from range(index, self.shard.steps)
            return
        while self._has_time(limit, index):
            with limit.step():
                yield index
            index += 1
            if not self.history and index == 1:
                limit.require_step()

    def _has_time(self, limit: TimeLimit, index: int) -> bool:
        """Whether the epoch goes on with a step; an epoch always has one."""
        self.plan, steps = self._make_plan(limit), self.shard.steps
        epochs, done = self.run.config.epochs, len(self.history) * steps + index
        if (epochs is not None and done == epochs * steps) or (index and not self.plan.has_step):
            limit.is_over = True
        if limit.is_over or (index >= steps and self.plan.has_epoch):
            return False
        limit.is_over = self.plan.is_last
        return True

    def _make_plan(self, limit: TimeLimit) -> TimePlan:
        """The first device's plan, so that all devices take the same number of steps."""
        return self.fabric.broadcast(limit.plan())

    def _batches(self) -> Iterator[Batch]:
        """The batches from the current step on, and of all epochs that follow, without end."""
        epoch, start = divmod(self.partial.steps, self.shard.steps)
        while True:
            yield from islice(self.shard.batches(len(self.history) + epoch, start),
                              self.shard.steps - start)
            epoch, start = epoch + 1, 0

    def _report_time(self, progress: Progress) -> None:
        if self.run.limit is not None:
            progress.time_left(self.run.limit.left)

    def _closing(self) -> AbstractContextManager[None]:
        """Measures what follows the last step of an epoch, if the time is limited."""
        return nullcontext() if self.run.limit is None else self.run.limit.closing()

    def _validate(self, module: nn.Module) -> Score:
        """Validate on the first device; other devices' batch-norm statistics differ."""
        score = None
        if self.fabric.is_global_zero:
            with self.fabric.autocast():
                score = self.run.objective.validate(
                    module, self.run.task.val, exits=self.run.exits, device=self.fabric.device)
        found: Score = self.fabric.broadcast(score)  # type: ignore[assignment]
        return found

    @property
    def _result(self) -> nn.Module:
        average = self.updates.average
        return self.run.module if average is None else average.module

    def _step_at(self, index: int) -> Step:
        """A step of the current epoch."""
        steps, config, limit = self.shard.steps, self.run.config, self.run.limit
        index += len(self.history) * steps
        elapsed = None if limit is None else self.plan.elapsed
        lr = config.learning_rate(index, steps, self.history, elapsed)
        if limit is not None and limit.is_over:
            return Step(index, index + 1, lr)
        most = math.inf if config.epochs is None else config.epochs * steps
        expected = Position(index, steps, config.epochs, elapsed=elapsed).total_steps
        return Step(index, math.ceil(max(expected, min(index + 2, most))), lr)

    @property
    def _record(self) -> TrainingRecord:
        """The record so far."""
        return TrainingRecord(self.history, stopped_early=False, start=self.start,
                              keeps_last=self.run.config.keep == "last")

    def _check_weights(self, index: int) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.run.module.parameters()):
            raise self._divergence_error(index, "the weights are no longer finite")

    def _divergence_error(self, index: int, what: str) -> TrainingError:
        config, (epochs, index) = self.run.config, divmod(index, self.shard.steps)
        number = f"{len(self.history) + epochs + 1}"
        number += "" if config.epochs is None else f" of {config.epochs}"
        best = self._record.kept_epoch if any(r.settled for r in self.history) else 0
        kept = f"of epoch {best}" if best else "from before the training"
        return TrainingError(
            f"training diverged in epoch {number}, at step {index + 1} of {self.shard.steps}: "
            f"{what}. Lower lr ({config.lr:g}), add a warm-up to the schedule or set clip_norm. "
            f"The model holds the weights {kept}")

    def _resume_or_score(self) -> list[str]:
        """Resume from the checkpoint or score the initial weights; return notes about it."""
        path, found, reason = self.run.checkpoint, None, ""
        if path is not None:
            found, reason = load_checkpoint(path, self.fingerprint)
        if found is not None:
            note = f"resumed after {self._resume(found)} from {path}"
            if self.run.limit is not None and not self._is_over():
                self._measure_closing()
            return [note]
        may_keep = all(hook.may_keep_initial_weights for hook in self.run.objective.hooks)
        if self.run.limit is not None:
            score = self._measure_closing()
            self.start = score if may_keep else None
        elif may_keep:
            self.start = self._validate(self.run.module)
        return [reason] if reason else []

    def _measure_closing(self) -> Score:
        """Do once what follows an epoch's last step; the score is that of the current weights."""
        with self._closing():
            score = self._validate(self._result)
            snapshot(self._result)
            self._save()
        return score

    def _resume(self, found: Checkpoint) -> str:
        self.run.module.load_state_dict(found.module)
        if self.updates.average is not None:
            self.updates.average.load_state_dict(found.average)
        self.updates.optimizer.load_state_dict(found.optimizer)
        self.fabric.strategy.precision.load_state_dict(found.precision)
        for hook, state in zip(self.run.objective.hooks, found.hooks, strict=True):
            hook.load_state(state)
        self.best, self.history, self.partial = found.best, found.history, found.partial
        self.start = found.start
        if self.run.limit is not None and found.time is not None:
            self.run.limit.resume(found.time)
        if self.partial.steps:
            return f"step {self.partial.steps} of epoch {len(self.history) + 1}"
        return f"epoch {len(self.history)}"

    def _save(self) -> None:
        self.saved_at = time.perf_counter()
        if self.run.checkpoint is None or not self.fabric.is_global_zero:
            return
        average = self.updates.average
        Checkpoint(
            fingerprint=self.fingerprint, module=self.run.module.state_dict(), best=self.best,
            average={} if average is None else average.state_dict(),
            optimizer=self.updates.optimizer.state_dict(),
            precision=self.fabric.strategy.precision.state_dict(),
            hooks=[hook.state() for hook in self.run.objective.hooks],
            history=self.history, partial=self.partial, start=self.start,
            time=None if self.run.limit is None else self.run.limit.use).save(self.run.checkpoint)
