"""The one fit loop's front door."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edgewright.capture import exits_of
from edgewright.task import Task
from edgewright.training._config import Training
from edgewright.training._constrained import Constrained
from edgewright.training._devices import fit_on_devices
from edgewright.training._fit import fit, one_device
from edgewright.training._keep_zeros import KeepZeros
from edgewright.training._objective import Objective
from edgewright.training._parameter_groups import check_trainable
from edgewright.training._progress import NoProgress, Progress
from edgewright.training._record import TrainingRecord
from edgewright.training._run import Run
from edgewright.training._shares import check_shares


def train(module: nn.Module, task: Task, config: Training,  # noqa: PLR0913 - public
          objective: Objective, *, seed: int = 0, checkpoint: Path | None = None,
          progress: Progress | None = None, exits: int | None = None) -> TrainingRecord:
    """Train a module in place, and leave it with the best weights that it had.

    Parameters that require no gradient stay as they are, in the weights' moving average too; batch
    norms in front of them go on gathering statistics, as torch's do.

    Epochs are compared on the validation split by what the objective says: the accuracy of the
    last output where it classifies, else its own mean loss. The best one's weights are kept, the
    latest of equals, once the objective's hooks have settled; where all are worse than the weights
    that were given, and every hook admits these, they stay as they were, and the record says so.
    What a captured network holds sparse keeps its zeros. The module ends in evaluation mode, on the
    device it came from. The same seed, machine and starting weights give the same weights, whether
    or not the run was interrupted.

    Several devices are a process each, to which module, task and objective are sent; the module
    comes back with its weights, the objective stays as it was.

    Args:
        module: Takes the task's inputs; returns what the objective takes: logits, with early exits
            a tuple of them, the final one last.
        task: Trained on ``train``, selected on ``val``.
        config: Optimizer, schedule, augmentation, devices.
        objective: What to minimise; its hooks act around every step.
        seed: Of the order of samples, their augmentation, mixing, and dropout.
        checkpoint: File written after every epoch and every minute, and resumed from where it is
            of this very run; one of another run is not used, and the record says so.
        progress: Is shown of every step.
        exits: How many of the outputs are early exits; None takes those of the captured network
            that the module is or contains, and none of any other module.

    Raises:
        TrainingError: The loss is no longer finite; the module then holds its last good weights.
        DataError: A sample or a label cannot be used.
        ModelError: The module does not return what the objective takes.
        UsageError: The devices are not there or cannot share the training, the module has nothing
            to train, or a setting cannot be used with it.
        StorageError: The checkpoint cannot be written.
    """
    shown: Progress = NoProgress() if progress is None else progress
    check_trainable(module)
    check_shares(config, len(task.train))
    run = Run(module, task, config, Constrained(objective, (KeepZeros(module),)), seed, checkpoint,
              exits_of(module) if exits is None else exits)
    try:
        if config.compute.devices > 1:
            return fit_on_devices(run, shown)
        return fit(run, one_device(config), shown)
    finally:
        shown.stop()
