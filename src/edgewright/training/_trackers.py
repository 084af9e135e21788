"""Training runs that TensorBoard or MLflow keeps, beside showing how far they have come."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, Protocol, final, get_args

from edgewright.errors import MissingExtraError, UsageError
from edgewright.training._progress import Progress
from edgewright.training._record import EpochRecord

Tracker = Literal["tensorboard", "mlflow"]

EVERY: Final = 50  # steps between two losses that are written
_EXPERIMENT: Final = "edgewright"


class Log(Protocol):
    """Where the figures of one training go; what cannot be written is an OSError."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """These figures, by name, after so many steps."""

    def close(self) -> None:
        """No more figures come."""


OpenLog = Callable[[str, int], Log]  # of a training's name, and the steps done before


@final
class Tracked:
    """Writes loss, validation score and learning rate to a log, and tells another progress.

    Each training becomes a log of its own. ``loss`` is of every 50th step; ``epoch/loss``,
    ``epoch/val_accuracy`` (or ``val_`` and the name of another score), ``epoch/lr`` and
    ``epoch/seconds`` of every epoch; all counted in steps. A log that can no longer be written is
    given up with a note: the training goes on.

    Args:
        shown: Is told everything too.
        open_log: See `tracker`.
        label: What is being done ("recover").
    """

    def __init__(self, shown: Progress, open_log: OpenLog, label: str = "train") -> None:
        self._shown, self._open, self._label = shown, open_log, label
        self._log: Log | None = None
        self._trainings = self._steps = self._step = 0

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Open a log."""
        self._shown.start(epochs, steps, done)
        self._close()
        self._trainings += 1
        self._steps, self._step = steps, done * steps
        name = self._label if self._trainings == 1 else f"{self._label}-{self._trainings}"
        try:
            self._log = self._open(name, self._step)
        except OSError as error:
            self._give_up(error)

    def advance(self, samples: int, loss: float) -> None:
        """Write the loss, where it is known and its turn has come."""
        self._shown.advance(samples, loss)
        self._step += 1
        if self._step % EVERY == 0 and not math.isnan(loss):
            self._write({"loss": loss})

    def epoch(self, record: EpochRecord) -> None:
        """Write the epoch's figures."""
        self._shown.epoch(record)
        self._step = record.epoch * self._steps  # of a resumed epoch not all steps were told
        self._write({"epoch/loss": record.loss,
                     f"epoch/val_{record.score.name}": record.score.value,
                     "epoch/lr": record.lr, "epoch/seconds": record.seconds})

    def note(self, text: str) -> None:
        """Pass it on."""
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
            self._give_up(error)

    def _close(self) -> None:
        log, self._log = self._log, None
        if log is None:
            return
        try:
            log.close()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._log = None
        self._shown.note(f"no longer tracked: {error}")


def tracker(kind: Tracker, run: Path) -> OpenLog:
    """What opens a log for each training of a run.

    TensorBoard's files go to ``tensorboard/NAME`` in the run directory. MLflow's go where its own
    settings say (``MLFLOW_TRACKING_URI``), to the experiment that ``MLFLOW_EXPERIMENT_NAME`` names
    or "edgewright", as runs called ``DIRECTORY/NAME``; a resumed training is a run of its own.

    Args:
        kind: ``tensorboard`` or ``mlflow``.
        run: The run directory.

    Raises:
        MissingExtraError: It is not installed.
        UsageError: There is no such tracker.
    """
    if kind not in get_args(Tracker):
        raise UsageError(f"there is no tracker {kind!r}; there are {', '.join(get_args(Tracker))}")
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
        # What an interrupted run wrote of steps that are now taken again is hidden.
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
