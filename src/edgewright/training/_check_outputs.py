"""Check that a model can be trained and evaluated on a task before any work is done."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from edgewright.capture import CapturedModule
from edgewright.errors import DataError
from edgewright.program import Program
from edgewright.task import Batch, Task
from edgewright.training._evaluate import device_of, to_device
from edgewright.training._objective import GoalLoss, Objective
from edgewright.training._outputs import split_exits

_PROBE_SAMPLES: Final = 7  # a prime, so that no other dimension is likely to equal the batch size


def check_program(program: Program, task: Task, objective: Objective | None = None) -> Any:
    """Check that a program's outputs fit the objective and that the task's targets fit the program.

    Args:
        program: The program; it is run on a few training samples.
        task: The data.
        objective: What training will minimize; None for the loss of the task's goal.

    Returns:
        What the final exit returns for these samples.

    Raises:
        ModelError: The outputs do not fit the objective, such as anything but logits (N, classes)
            for a classification.
        DataError: A target does not fit the outputs, an input cannot be read, or the task has the
            program's inputs in another order.
        UsageError: The goal's loss is not finite or has no gradient, or a metric raises.

    Example:
        >>> x, y = torch.randn(8, 4), torch.arange(8) % 3
        >>> check_program(Program.capture(nn.Linear(4, 3), x), Task((x, y), test=(x, y))).shape
        torch.Size([7, 3])
    """
    _check_input_order(program.input_names, task)
    batch = sample_batch(task)
    return _check(program.run(*batch.inputs), batch, task, objective or GoalLoss(task.goal),
                  program.exits)


def check_outputs(module: nn.Module, task: Task, objective: Objective, exits: int) -> Any:
    """Like `check_program`, for a module with ``exits`` early exits; its mode is restored."""
    if isinstance(module, CapturedModule):
        _check_input_order(module.input_names, task)
    batch = to_device(sample_batch(task), device_of(module))
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            result = module(*batch.inputs)
    finally:
        module.train(was_training)
    return _check(result, batch, task, objective, exits)


def _check_input_order(expected: tuple[str, ...], task: Task) -> None:
    """Raise if the task has the program's inputs by name, in another order."""
    names = task.train.input_names
    if names is not None and names != expected and sorted(names) == sorted(expected):
        raise DataError(f"the task's inputs are {', '.join(names)}, but the program takes "
                        f"{', '.join(expected)}; give them in that order: Task(..., "
                        f"inputs={expected})")


def sample_batch(task: Task) -> Batch:
    """A few training samples, on which models are checked before any work is done."""
    count = min(_PROBE_SAMPLES, len(task.train))
    return next(task.train.select(range(count)).batches(count))


def _check(result: Any, batch: Batch, task: Task, objective: Objective, exits: int) -> Any:
    outputs = split_exits(result, exits)
    objective.check(outputs, batch, exits)
    if objective.goal is not None:
        task.check(outputs[-1])
    objective.check_loss(outputs, batch)
    return outputs[-1]
