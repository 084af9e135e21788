"""Log training runs to TensorBoard or MLflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, Protocol, final, get_args

from edgewright.errors import MissingExtraError, UsageError
from edgewright.training._progress import Progress
from edgewright.training._record import EpochRecord

ExperimentTracker = Literal["tensorboard", "mlflow"]

LOG_INTERVAL: Final = 50  # steps between two logged losses
_EXPERIMENT: Final = "edgewright"


class Log(Protocol):
    """The log of one training; methods raise OSError if they cannot write."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write metrics by name, after ``step`` steps."""

    def close(self) -> None:
        """Close the log."""


OpenLog = Callable[[str, int], Log]  # from a training's name, and the number of completed steps


@final
class TrackingProgress:
    """Writes loss, validation score and learning rate to a log, and forwards to another progress.

    Each training gets its own log. ``loss`` is logged every 50 steps; ``epoch/loss``,
    ``epoch/val_accuracy`` (or ``val_`` and the name of another score), ``epoch/lr`` and
    ``epoch/seconds`` every epoch; the x axis is the step. If a log cannot be written, logging stops
    with a note and the training continues.

    Args:
        shown: The progress to forward to.
        open_log: See `open_experiment_tracker`.
        label: Name of the activity ("recover").
    """

    def __init__(self, shown: Progress, open_log: OpenLog, label: str = "train") -> None:
        self._shown, self._open, self._label = shown, open_log, label
        self._log: Log | None = None
        self._trainings = self._steps = self._step = 0

    def start(self, epochs: int | None, steps: int, done: int) -> None:
        """Open a log."""
        self._shown.start(epochs, steps, done)
        self._close()
        self._trainings += 1
        self._steps, self._step = steps, done * steps
        name = self._label if self._trainings == 1 else f"{self._label}-{self._trainings}"
        try:
            self._log = self._open(name, self._step)
        except OSError as error:
            self._stop_logging(error)

    def advance(self, samples: int, loss: float) -> None:
        """Write the loss at every logging interval, if it is known."""
        self._shown.advance(samples, loss)
        self._step += 1
        if self._step % LOG_INTERVAL == 0 and not math.isnan(loss):
            self._write({"loss": loss})

    def time_left(self, seconds: float) -> None:
        """Forward the time."""
        self._shown.time_left(seconds)

    def epoch(self, record: EpochRecord) -> None:
        """Write the epoch's metrics."""
        self._shown.epoch(record)
        # A resumed epoch does not report all steps; the last one before a time limit may have more.
        self._step = max(self._step, record.epoch * self._steps)
        self._write({"epoch/loss": record.loss,
                     f"epoch/val_{record.score.name}": record.score.value,
                     "epoch/lr": record.lr, "epoch/seconds": record.seconds})

    def note(self, text: str) -> None:
        """Forward the note."""
        self._shown.note(text)

    def stop(self) -> None:
        """Close the log."""
        self._close()
        self._shown.stop()

    def _write(self, values: Mapping[str, float]) -> None:
        if self._log is None:
            return
        try:
            self._log.write(values, self._step)
        except OSError as error:
            self._stop_logging(error)

    def _close(self) -> None:
        log, self._log = self._log, None
        if log is None:
            return
        try:
            log.close()
        except OSError as error:
            self._stop_logging(error)

    def _stop_logging(self, error: OSError) -> None:
        self._log = None
        self._shown.note(f"no longer tracked: {error}")


def open_experiment_tracker(kind: ExperimentTracker, run: Path) -> OpenLog:
    """A function that opens a log for each training of a run.

    TensorBoard logs are written to ``tensorboard/NAME`` in the run directory. MLflow logs go to
    ``MLFLOW_TRACKING_URI``, in the experiment ``MLFLOW_EXPERIMENT_NAME`` or "edgewright", as runs
    called ``DIRECTORY/NAME``; a resumed training becomes a new run.

    Args:
        kind: ``tensorboard`` or ``mlflow``.
        run: The run directory.

    Raises:
        MissingExtraError: The package is not installed.
        UsageError: An unknown tracker.
    """
    if kind not in get_args(ExperimentTracker):
        raise UsageError(f"there is no tracker {kind!r}; there are "
                         f"{', '.join(get_args(ExperimentTracker))}")
    try:
        module = import_module("torch.utils.tensorboard" if kind == "tensorboard" else "mlflow")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != kind:
            raise
        raise MissingExtraError(f"tracking with {kind}", kind) from error
    if kind == "tensorboard":
        return lambda name, done: _TensorBoardLog(module, run / "tensorboard" / name, done)
    return lambda name, _: _MlflowLog(module, f"{run.name}/{name}")


@final
class _TensorBoardLog:
    def __init__(self, tensorboard: Any, folder: Path, done: int) -> None:
        # Hides what an interrupted run wrote for steps that are now repeated.
        self._writer = tensorboard.SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


@final
class _MlflowLog:
    def __init__(self, mlflow: Any, name: str) -> None:
        self._mlflow = mlflow
        self._call(self._begin, name)

    def _begin(self, name: str) -> None:
        self._client = self._mlflow.MlflowClient()
        wanted = self._mlflow.environment_variables.MLFLOW_EXPERIMENT_NAME.get() or _EXPERIMENT
        found = self._client.get_experiment_by_name(wanted)
        experiment = (self._client.create_experiment(wanted) if found is None
                      else found.experiment_id)
        self._run = self._client.create_run(experiment, run_name=name).info.run_id

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._call(self._client.log_metric, self._run, name, value, step=step)

    def close(self) -> None:
        self._call(self._client.set_terminated, self._run)

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except self._mlflow.exceptions.MlflowException as error:
            raise OSError(f"MLflow: {error}") from error
