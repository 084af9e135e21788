"""The public entry point of the training loop."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edgewright.capture import count_exits
from edgewright.task import Task
from edgewright.training._config import Training
from edgewright.training._constrained_objective import ConstrainedObjective
from edgewright.training._devices import train_on_devices
from edgewright.training._keep_zeros import KeepZeros
from edgewright.training._objective import Objective
from edgewright.training._parameter_groups import check_trainable
from edgewright.training._precision import find_fastest_precision
from edgewright.training._progress import NoProgress, Progress
from edgewright.training._record import TrainingRecord
from edgewright.training._run import Run
from edgewright.training._sharding import check_sharding
from edgewright.training._single_device import single_device_fabric, train_on_device
from edgewright.training._time_limit import TimeLimit


def train(module: nn.Module, task: Task, config: Training,  # noqa: PLR0913 - public
          objective: Objective, *, seed: int = 0, checkpoint: Path | None = None,
          progress: Progress | None = None, exits: int | None = None) -> TrainingRecord:
    """Train a module in place and load the weights of its best epoch, or of its last.

    Parameters that do not require a gradient stay unchanged, also in the moving average of the
    weights; batch norms still update their running statistics, as in torch.

    Epochs are compared on the validation split by the objective's score: the accuracy of the last
    output if it classifies, else its mean loss. The weights of the best epoch are kept (the latest
    if tied), considering only epochs in which the objective's hooks have settled. If all epochs are
    worse than the initial weights and every hook allows those, the initial weights are kept and the
    record says so. With ``keep="last"`` the weights of the last epoch are kept. Sparse tensors of a
    captured network keep their zeros. On return the module is in evaluation mode on its original
    device. The same seed, machine and initial weights give the same result, whether or not the run
    was interrupted, unless ``config.time`` limits the time. A resumed run then has the time that is
    left; the time after its last checkpoint is not counted.

    With several devices, each runs in its own process, which receives copies of module, task and
    objective; the module gets the trained weights back, the objective stays unchanged.

    Args:
        module: Takes the task's inputs; its outputs must fit the objective: logits, or with early
            exits a tuple of logits, the final one last.
        task: The data: trained on ``train``, selected on ``val``.
        config: Optimizer, schedule, augmentation, devices.
        objective: What to minimize; its hooks act around every step.
        seed: Seed of the sample order, augmentation, mixing, and dropout.
        checkpoint: File to write after every epoch and every minute. If it exists and belongs to
            this run, training resumes from it; otherwise it is ignored and the record says so.
        progress: Receives every step.
        exits: Number of outputs that are early exits; None uses the number of the captured network
            that the module is or contains, and 0 for any other module.

    Raises:
        TrainingError: The loss is not finite; the module then holds its last good weights.
        DataError: A sample or a label cannot be used.
        ModelError: The module's outputs do not fit the objective.
        UsageError: The devices are unavailable or cannot share the training, the module has nothing
            to train, a setting is not supported for it, or ``config.time`` is too short for one
            step.
        StorageError: The checkpoint cannot be written.
    """
    limit = None if config.time is None else TimeLimit(config.time)  # starts the clock
    shown: Progress = NoProgress() if progress is None else progress
    check_trainable(module)
    check_sharding(config, len(task.train))
    run = Run(module, task, config, ConstrainedObjective(objective, (KeepZeros(module),)), seed,
              checkpoint, count_exits(module) if exits is None else exits, limit)
    try:
        if config.compute.devices > 1:
            return train_on_devices(run, shown)
        precision, notes = find_fastest_precision(run)
        return train_on_device(run, single_device_fabric(config, precision), shown, notes)
    finally:
        shown.stop()
