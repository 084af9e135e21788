"""Training within a time: a fake clock moves only when steps and validations say so."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from edgewright.errors import TrainingError, UsageError
from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.pruning import WeightPruning, prune_weights
from edgewright.task import Batch, Task
from edgewright.training import (
    ConstrainedObjective,
    CosineSchedule,
    GoalLoss,
    Objective,
    OneCycleSchedule,
    Position,
    RichProgress,
    Score,
    Step,
    StepHook,
    Training,
    TrainingRecord,
    _loop,
    _time_limit,
    train,
)

STEPS = 5  # 40 samples, 8 per step


class Clock:
    """The time in seconds; it stands still unless it is advanced."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(_time_limit, "read_clock", found)
    return found


class Timed(Objective):
    """The loss of a classification; a step and a validation take the given seconds."""

    def __init__(self, clock: Clock, step: float = 1.0, validation: float = 3.0) -> None:
        self.clock, self.step, self.validation = clock, step, validation
        self.inner = GoalLoss(Classification())
        self.validations = 0

    @property
    def name(self) -> str:
        return "timed"

    def loss(self, outputs: tuple[Any, ...], batch: Batch) -> Tensor:
        if torch.is_grad_enabled() and outputs[0].requires_grad:
            self.clock.now += self.step
        return self.inner.loss(outputs, batch)

    def check_loss(self, outputs: tuple[Any, ...], batch: Batch) -> None:
        pass

    def validate(self, module: nn.Module, split: Any, **options: Any) -> Score:
        self.clock.now += self.validation
        self.validations += 1
        return self.inner.validate(module, split, **options)


class Watch(StepHook):
    """Keeps the steps, and accepts the initial weights."""

    def __init__(self, is_strict: bool = False) -> None:
        self.steps: list[Step] = []
        self.is_strict = is_strict

    def after_step(self, step: Step) -> None:
        self.steps.append(step)

    def is_settled(self, step: Step) -> bool:
        return not self.is_strict or step.index + 1 == step.total


class Progress:
    """Keeps what is reported; interrupts the run at a step, 0 never."""

    def __init__(self, stop_at: int = 0) -> None:
        self.stop_at = stop_at
        self.left: list[float] = []
        self.started: tuple[Any, ...] = ()
        self.steps = 0

    def start(self, epochs: int | None, steps: int, done: int) -> None:
        self.started = (epochs, steps, done)

    def advance(self, samples: int, loss: float) -> None:
        self.steps += 1
        if self.steps == self.stop_at:
            raise KeyboardInterrupt

    def time_left(self, seconds: float) -> None:
        self.left.append(seconds)

    def epoch(self, record: Any) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def stop(self) -> None:
        pass


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 2)


def task() -> Task:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return Task((x[:40], y[:40]), (x[40:50], y[40:50]), (x[50:], y[50:]))


def run(objective: Objective, seconds: float, *, module: nn.Module | None = None,
        hook: StepHook | None = None, checkpoint: Path | None = None,
        progress: Progress | None = None, **settings: Any) -> TrainingRecord:
    config = Training(**{"time": seconds, "batch_size": 8, "compute": "cpu", **settings})
    whole = ConstrainedObjective(objective, () if hook is None else (hook,))
    return train(net() if module is None else module, task(), config, whole,
                 checkpoint=checkpoint, progress=progress)


@pytest.mark.parametrize("seconds", [5.0, 8.0, 17.5, 40.0, 61.0, 200.3, 1000.0])
@pytest.mark.parametrize(("step", "validation"), [(1.0, 1.0), (0.4, 3.0), (1.7, 0.0)])
def test_the_run_ends_within_a_step_of_its_limit(clock: Clock, seconds: float, step: float,
                                                 validation: float) -> None:
    began = clock.now
    if 2 * validation + step > seconds:
        with pytest.raises(UsageError, match="too short for one step"):
            run(Timed(clock, step, validation), seconds)
        return
    record = run(Timed(clock, step, validation), seconds)
    assert seconds - step - 1e-6 <= clock.now - began <= seconds + 1e-6
    assert not record.stopped_early


@pytest.mark.parametrize("speed", [1.0, 0.25])
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", CosineSchedule(warmup_epochs=1),
                                      OneCycleSchedule(rise_epochs=2)])
def test_schedules_reach_their_end_on_any_machine(clock: Clock, speed: float,
                                                  schedule: Any) -> None:
    hook = Watch()
    run(Timed(clock, step=speed, validation=0.5), 120.0, hook=hook, schedule=schedule, lr=1.0)
    rates = [step.lr for step in hook.steps]
    assert len(rates) == pytest.approx(120 / (speed + 0.5 / STEPS), rel=0.03)
    assert rates[-1] < 1e-3
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    peak = rates.index(max(rates))
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[:peak + 1] == sorted(rates[:peak + 1])
    if schedule == "one_cycle":
        assert peak / len(rates) == pytest.approx(0.3, abs=0.03)


def test_the_rate_follows_the_time_and_not_the_steps(clock: Clock) -> None:
    hook, objective = Watch(), Timed(clock, step=1.0, validation=0.0)
    after_step = hook.after_step

    def slower(step: Step) -> None:  # the second half of the time has a tenth of the speed
        after_step(step)
        objective.step = 1.0 if len(hook.steps) < 50 else 10.0

    hook.after_step = slower  # type: ignore[method-assign]
    run(objective, 101.0, hook=hook, lr=1.0)
    assert hook.steps[50].lr == pytest.approx(0.5, abs=0.02)
    assert len(hook.steps) == 55
    assert hook.steps[-1].lr < 0.05


def test_the_total_is_exact_at_the_last_step(clock: Clock) -> None:
    hook = Watch(is_strict=True)
    module = net()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    record = run(Timed(clock), 60.0, module=module, hook=hook)
    assert [step.index for step in hook.steps] == list(range(len(hook.steps)))
    assert [step.index + 1 == step.total for step in hook.steps] == (
        [False] * (len(hook.steps) - 1) + [True])
    assert [epoch.settled for epoch in record.history] == (
        [False] * (len(record.history) - 1) + [True])
    assert any(not torch.equal(before[name], tensor)
               for name, tensor in module.state_dict().items())


def test_validations_do_not_follow_each_other_within_a_few_steps(clock: Clock) -> None:
    hook, objective = Watch(), Timed(clock, step=1.0, validation=3.0)
    record = run(objective, 22.0, hook=hook)  # 3 s before, one epoch and validation, 11 s left
    assert len(record.history) == 2
    assert len(hook.steps) == 13
    hook, objective = Watch(), Timed(clock, step=1.0, validation=3.0)
    record = run(objective, 17.0, hook=hook)  # after an epoch, 9 s are left: it goes on
    assert len(record.history) == 1
    assert len(hook.steps) == 11
    assert objective.validations == 2


def test_the_steps_beyond_an_epoch_are_those_of_the_next(clock: Clock) -> None:
    long, plain = net(), net()
    run(Timed(clock, step=1.0, validation=3.0), 17.0, module=long, schedule="constant")
    hook = Watch()

    class Stop(Exception):  # noqa: N818
        pass

    def stop(step: Step) -> None:
        if step.index == 11:
            raise Stop

    hook.before_step = stop  # type: ignore[method-assign]
    kept: dict[str, Tensor] = {}
    hook.after_step = lambda step: kept.update(  # type: ignore[method-assign]
        {name: tensor.detach().clone() for name, tensor in plain.state_dict().items()})
    with pytest.raises(Stop):
        run(Timed(clock), 0.0, module=plain, hook=hook, time=None, epochs=3, schedule="constant")
    torch.testing.assert_close(long.state_dict(), kept, rtol=0, atol=0)


def test_the_epochs_are_the_maximum(clock: Clock) -> None:
    hook, began = Watch(), clock.now
    record = run(Timed(clock), 1000.0, hook=hook, epochs=3, lr=1.0)
    assert len(record.history) == 3
    assert not record.stopped_early
    assert len(hook.steps) == 3 * STEPS == hook.steps[-1].total
    assert clock.now - began == 3 * STEPS + 4 * 3
    assert hook.steps[-1].lr == pytest.approx((1 + math.cos(math.pi * 14 / 15)) / 2)


def test_patience_stops_before_the_limit(clock: Clock) -> None:
    record = run(Timed(clock), 1000.0, patience=1, lr=1e-12)
    assert record.stopped_early
    assert len(record.history) == 2


@pytest.mark.parametrize("stop_at", [2, 7, 13, 20, 30])
def test_a_resumed_run_has_the_time_that_is_left(clock: Clock, tmp_path: Path, stop_at: int,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loop, "CHECKPOINT_SECONDS", 0)
    path, began, hook = tmp_path / "c", clock.now, Watch()
    with pytest.raises(KeyboardInterrupt):
        run(Timed(clock), 60.0, hook=hook, checkpoint=path, progress=Progress(stop_at))
    lost = 1.0  # the step after the last checkpoint
    clock.now += 10_000.0  # nobody trains
    record = run(Timed(clock), 60.0, hook=hook, checkpoint=path, progress=Progress())
    assert record.notes[0].startswith("resumed after ")
    assert 59.0 - 1e-6 <= clock.now - began - 10_000.0 - lost <= 60.0 + 1e-6
    assert hook.steps[-1].index + 1 == hook.steps[-1].total
    assert hook.steps[-1].lr < 0.05 * 0.05
    assert sum(1 for step in hook.steps if step.index == stop_at - 1) == 2  # repeated
    used = clock.now
    again = run(Timed(clock), 60.0, hook=hook, checkpoint=path)
    assert again.history == record.history
    assert clock.now == used  # it had ended


@pytest.mark.parametrize(("seconds", "message"), [
    (2.0, r"time=2 s is too short for one step of training: preparation took 3 s, and validation "
          r"takes 3 s; give over 6 s"),
    (8.0, r"time=8 s is too short for one step of training: preparation took 3 s, one step 5 s, "
          r"and validation takes 3 s; give 11 s or more")])
def test_a_limit_too_short_for_one_step_is_refused(clock: Clock, seconds: float, message: str,
                                                   tmp_path: Path) -> None:
    module = net()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for _ in range(2):  # the refused run's time does not count
        with pytest.raises(UsageError, match=f"^{message}$"):
            run(Timed(clock, step=5.0), seconds, module=module, checkpoint=tmp_path / "c")
        torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert run(Timed(clock, step=5.0), 11.0, module=module).history[0].epoch == 1


def test_averages_are_validated_within_the_limit(clock: Clock) -> None:
    began = clock.now
    record = run(Timed(clock), 50.0, ema=0.9)
    assert 49.0 <= clock.now - began <= 50.0
    assert record.kept_epoch == len(record.history)


def test_divergence_is_reported_without_a_number_of_epochs(clock: Clock) -> None:
    with pytest.raises(TrainingError, match=r"training diverged in epoch 1, at step \d of 5: "):
        run(Timed(clock), 50.0, lr=1e38, optimizer="sgd", schedule="constant")


def test_gradual_pruning_reaches_its_sparsity(clock: Clock) -> None:
    torch.manual_seed(0)
    program = Program.capture(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)),
                              torch.zeros(1, 4))
    config = WeightPruning(sparsity=0.5, schedule="gradual", every=3, end=0.6, training=Training(
        time=80.0, batch_size=8, compute="cpu"))
    sparse = prune_weights(program, task(), config, objective=Timed(clock))
    weights = [tensor for tensor in sparse.state_dict().values() if tensor.ndim == 2]
    zeros = sum(int((tensor == 0).sum()) for tensor in weights)
    assert zeros == 48


def test_the_time_left_is_reported(clock: Clock) -> None:
    progress = Progress()
    run(Timed(clock), 30.0, progress=progress)
    assert progress.started == (None, STEPS, 0)
    assert progress.left[0] == 27.0  # after the first validation
    assert progress.left[1:4] == [26.0, 25.0, 24.0]
    assert 3.0 <= progress.left[-1] < 4.0  # for the last validation


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_and_the_lines_tell_the_time_left(clock: Clock, is_terminal: bool) -> None:
    stream = io.StringIO()
    shown = RichProgress("recover", lines=True, console=Console(
        file=stream, force_terminal=is_terminal, width=150, _environ={}))
    run(Timed(clock), 130.0, progress=shown)  # type: ignore[arg-type]
    text = stream.getvalue()
    if is_terminal:
        assert re.search(r"recover \d+, 3 s left .* loss ", text)  # when it ended
        return
    first, *_, last = text.splitlines()
    assert first.startswith("recover 1: loss ")
    assert first.endswith("s, 2:02 min left")
    assert last.endswith(" s left")


@pytest.mark.parametrize(("given", "seconds"), [
    ("20m", 1200.0), ("20 min", 1200.0), ("90s", 90.0), ("1.5 h", 5400.0), (12, 12.0),
    ("12", 12.0), ("500 ms", 0.5)])
def test_a_time_is_read_and_round_trips(given: Any, seconds: float) -> None:
    config = Training(time=given)
    assert (config.time, config.epochs) == (seconds, None)
    assert Training.model_validate(config.model_dump(mode="json")) == config
    limited = Training(epochs=60).replace(time=given)
    assert (limited.time, limited.epochs) == (seconds, 60)
    assert Training.model_validate(limited.model_dump(mode="json")) == limited


@pytest.mark.parametrize(("settings", "message"), [
    ({"time": "20 days"}, "Training: time: unknown unit 'days' in '20 days' for a duration; known: "
                          "ms, s, m, "),
    ({"time": "soon"}, "Training: time: 'soon' is not a quantity; write a number and a unit, as in "
                       "'20 min'"),
    ({"time": 0}, "Training: time: Input should be greater than 0, got 0"),
    ({"time": float("inf")}, "Training: time: Input should be a finite number, got inf"),
    ({"epochs": None}, "Training: epochs=None needs a limit on the time; give epochs or time")])
def test_invalid_times_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        Training(**settings)


def test_a_position_follows_the_share_of_time() -> None:
    schedule = CosineSchedule()
    half = Position(step=70, steps_per_epoch=10, epochs=None, elapsed=0.5)
    assert half.total_steps == 140
    assert schedule.factor(half) == pytest.approx(0.5)
    first = Position(step=0, steps_per_epoch=10, epochs=None, elapsed=0.0)
    assert (first.total_steps, schedule.factor(first)) == (10, 1.0)
    last = Position(step=70, steps_per_epoch=10, epochs=None, elapsed=1.0)
    assert last.total_steps == 71
    limited = Position(step=70, steps_per_epoch=10, epochs=8, elapsed=0.5)
    assert limited.total_steps == 80
