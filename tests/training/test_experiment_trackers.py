from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from edgewright.errors import MissingExtraError, UsageError
from edgewright.goals import Classification
from edgewright.task import Task
from edgewright.training import (
    EpochRecord,
    GoalLoss,
    NoProgress,
    Score,
    TrackingProgress,
    Training,
    open_experiment_tracker,
    train,
)
from edgewright.training._experiment_trackers import LOG_INTERVAL

STEPS = 60


def record(epoch: Any) -> Any:
    score = Score("accuracy", 0.5 + epoch / 10, unit="fraction")
    return EpochRecord(epoch, loss=1 / epoch, score=score, lr=0.1, seconds=2.0)


def play(progress: Any, first: int = 0, epochs: int = 2) -> None:
    progress.start(epochs, STEPS, first)
    for epoch in range(first, epochs):
        for step in range(STEPS):
            progress.advance(4, float(epoch * STEPS + step + 1))
        progress.epoch(record(epoch + 1))
    progress.stop()


class Spy:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args: self.told.append((name, *args))


class Memory:
    """A log that fails where it is told to."""

    def __init__(self, failing: Any = None) -> None:
        self.failing, self.closed = failing, 0
        self.names: list[tuple[str, Any]] = []
        self.written: list[tuple[str, Any, int]] = []

    def __call__(self, name: str, done: Any) -> Any:
        self._fail("open")
        self.names.append((name, done))
        return self

    def write(self, values: Any, step: Any) -> None:
        self._fail("write")
        self.written += [(name, value, step) for name, value in values.items()]

    def close(self) -> None:
        self._fail("close")
        self.closed += 1

    def _fail(self, where: Any) -> None:
        if where == self.failing:
            raise OSError("the server is gone")


EXPECTED = {
    "loss": [(50, 50.0), (100, 100.0)],
    "epoch/loss": [(60, 1.0), (120, 0.5)],
    "epoch/val_accuracy": [(60, 0.6), (120, 0.7)],
    "epoch/lr": [(60, 0.1), (120, 0.1)],
    "epoch/seconds": [(60, 2.0), (120, 2.0)],
}


def by_name(written: Any) -> Any:
    found: dict[str, list[tuple[int, Any]]] = {}
    for name, value, step in written:
        found.setdefault(name, []).append((step, value))
    return found


def test_metrics_are_logged_by_step_and_calls_are_forwarded() -> None:
    log, told, plain = Memory(), Spy(), Spy()
    play(TrackingProgress(told, log, "recover"))
    play(plain)
    assert by_name(log.written) == EXPECTED
    assert (log.names, log.closed) == ([("recover", 0)], 1)
    assert told.told == plain.told


def test_a_resumed_training_continues_counting_and_each_training_has_its_log() -> None:
    log = Memory()
    progress = TrackingProgress(NoProgress(), log, "recover")
    play(progress, first=1)
    assert by_name(log.written)["loss"] == [(100, 100.0)]
    assert by_name(log.written)["epoch/loss"] == [(120, 0.5)]
    play(progress)
    assert log.names == [("recover", STEPS), ("recover-2", 0)]


def test_an_unknown_loss_is_not_logged() -> None:
    log = Memory()
    progress = TrackingProgress(NoProgress(), log)
    progress.start(1, LOG_INTERVAL, 0)
    for _ in range(LOG_INTERVAL):
        progress.advance(4, float("nan"))
    assert log.written == []


@pytest.mark.parametrize("failing", ["open", "write", "close"])
def test_a_failing_log_is_dropped_and_training_continues(failing: str) -> None:
    told = Spy()
    play(TrackingProgress(told, Memory(failing), "recover"))
    assert [what for what in told.told if what[0] == "note"] == [
        ("note", "no longer tracked: the server is gone")]
    assert told.told[-1] == ("stop",)
    assert sum(what[0] == "advance" for what in told.told) == 2 * STEPS


def test_a_training_is_tracked(quadrant_task: Task) -> None:
    log = Memory()
    config = Training(epochs=2, batch_size=32, compute="cpu")
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    found = train(module, quadrant_task, config, GoalLoss(Classification()),
                  progress=TrackingProgress(NoProgress(), log, "recover"))
    accuracies = [value for name, value, _ in log.written if name == "epoch/val_accuracy"]
    assert accuracies == [epoch.val_accuracy for epoch in found.history]
    assert log.closed == 1


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_missing_package_names_the_extra_to_install(kind: Any, monkeypatch: pytest.MonkeyPatch,
                                                      tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == kind]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingExtraError, match=rf"tracking with {kind} needs an extra .*"
                       rf"pip install 'edgewright\[{kind}\]'"):
        open_experiment_tracker(kind, tmp_path)


def test_an_unknown_tracker_raises(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no tracker 'x'; there are tensorboard, mlflow"):
        open_experiment_tracker("x", tmp_path)  # type: ignore[arg-type]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    play(TrackingProgress(NoProgress(), open_experiment_tracker("tensorboard", tmp_path), "recover"))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "recover"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(step, pytest.approx(value)) for step, value in expected]


def test_tensorboard_shows_repeated_steps_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    play(TrackingProgress(NoProgress(), open_experiment_tracker("tensorboard", tmp_path), "recover"))
    play(TrackingProgress(NoProgress(), open_experiment_tracker("tensorboard", tmp_path), "recover"), first=1)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "recover"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [50, 100]
    assert [event.step for event in events.Scalars("epoch/loss")] == [60, 120]


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    found = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    return found


@pytest.mark.parametrize("experiment", [None, "mine"])
def test_mlflow_reads_what_was_written(mlflow: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                       experiment: str | None) -> None:
    if experiment is not None:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    for _ in range(2):
        play(TrackingProgress(NoProgress(), open_experiment_tracker("mlflow", tmp_path / "run"), "recover"))
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(experiment or "edgewright")
    runs = client.search_runs([found.experiment_id])
    assert [(run.info.run_name, run.info.status) for run in runs] == [
        ("run/recover", "FINISHED")] * 2
    for name, expected in EXPECTED.items():
        history = client.get_metric_history(runs[0].info.run_id, name)
        assert [(metric.step, metric.value) for metric in history] == expected


def test_an_unreachable_mlflow_is_noted(mlflow: Any, monkeypatch: pytest.MonkeyPatch,
                                        tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://nowhere")
    told = Spy()
    play(TrackingProgress(told, open_experiment_tracker("mlflow", tmp_path), "recover"))
    (note,) = [what[1] for what in told.told if what[0] == "note"]
    assert note.startswith("no longer tracked: MLflow: ")
