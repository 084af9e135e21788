"""Whether a model can be trained and judged on a task, seen before any work is done."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from edgewright.program import Program
from edgewright.task import Batch, Task
from edgewright.training._evaluate import device_of, on_device
from edgewright.training._objective import LabelLoss, Objective
from edgewright.training._outputs import as_outputs

_SAMPLES: Final = 7  # as few classes number; so that no other dimension passes for the batch


def check_program(program: Program, task: Task, objective: Objective | None = None) -> int:
    """See that a program puts out what an objective takes, and that the task's labels fit it.

    Args:
        program: Runs a few of the training samples.
        task: Its data.
        objective: What is to be minimised or judged; cross-entropy with the labels if left out.

    Returns:
        The size of the last output's last dimension: of a classifier, its classes.

    Raises:
        ModelError: Outputs that the objective does not take: of a classifier, everything but
            logits (N, classes) of two classes or more, one tensor per exit.
        DataError: A label that is none of the classes; inputs that cannot be read.

    Example:
        >>> x, y = torch.randn(8, 4), torch.arange(8) % 3
        >>> check_program(Program.capture(nn.Linear(4, 3), x), Task((x, y), test=(x, y)))
        3
    """
    batch = _some(task)
    return _check(as_outputs(program.run(*batch.inputs)), batch, task,
                  objective or LabelLoss(), program.exits)


def check_outputs(module: nn.Module, task: Task, objective: Objective, exits: int) -> int:
    """The same for a module of so many early exits, which ends in the mode that it was in."""
    batch = on_device(_some(task), device_of(module))
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            outputs = as_outputs(module(*batch.inputs))
        return _check(outputs, batch, task, objective, exits)
    finally:
        module.train(was_training)


def _some(task: Task) -> Batch:
    return next(task.train.select(range(min(_SAMPLES, len(task.train)))).batches(_SAMPLES))


def _check(outputs: tuple[Tensor, ...], batch: Batch, task: Task, objective: Objective,
           exits: int) -> int:
    objective.check(outputs, batch, exits)
    classes = outputs[-1].shape[-1] if outputs[-1].ndim else 1
    if objective.classifies:
        task.check(classes)
    return classes
