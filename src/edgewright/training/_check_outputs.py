"""Check that a model can be trained and evaluated on a task before any work is done."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from edgewright.program import Program
from edgewright.task import Batch, Task
from edgewright.training._evaluate import device_of, to_device
from edgewright.training._objective import LabelLoss, Objective
from edgewright.training._outputs import as_outputs

_PROBE_SAMPLES: Final = 7  # a prime, so that no other dimension is likely to equal the batch size


def check_program(program: Program, task: Task, objective: Objective | None = None) -> int:
    """Check that a program's outputs fit the objective and that the task's labels fit the program.

    Args:
        program: The program; it is run on a few training samples.
        task: The data.
        objective: What training will minimize; None for cross-entropy with the labels.

    Returns:
        The size of the last output's last dimension: for a classifier, the number of classes.

    Raises:
        ModelError: The outputs do not fit the objective. A classifier must return logits (N,
            classes) with at least two classes, one tensor per exit.
        DataError: A label is outside the classes, or an input cannot be read.

    Example:
        >>> x, y = torch.randn(8, 4), torch.arange(8) % 3
        >>> check_program(Program.capture(nn.Linear(4, 3), x), Task((x, y), test=(x, y)))
        3
    """
    batch = _sample_batch(task)
    return _check(as_outputs(program.run(*batch.inputs)), batch, task,
                  objective or LabelLoss(), program.exits)


def check_outputs(module: nn.Module, task: Task, objective: Objective, exits: int) -> int:
    """Like `check_program`, for a module with ``exits`` early exits; its mode is restored."""
    batch = to_device(_sample_batch(task), device_of(module))
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            outputs = as_outputs(module(*batch.inputs))
        return _check(outputs, batch, task, objective, exits)
    finally:
        module.train(was_training)


def _sample_batch(task: Task) -> Batch:
    count = min(_PROBE_SAMPLES, len(task.train))
    return next(task.train.select(range(count)).batches(count))


def _check(outputs: tuple[Tensor, ...], batch: Batch, task: Task, objective: Objective,
           exits: int) -> int:
    objective.check(outputs, batch, exits)
    classes = outputs[-1].shape[-1] if outputs[-1].ndim else 1
    if objective.classifies:
        task.check(classes)
    return classes
