"""Check that a model can be compressed, before anything is written."""

from __future__ import annotations

import torch

from edgewright.errors import ModelError, UsageError
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import check_program


def validate_model(program: Program, task: Task) -> None:
    """Check that the model is a float32 classifier of the task's classes with finite weights.

    Raises:
        UsageError: The program is compressed already.
        ModelError: Weights are not finite float32, or the output is not a single one of logits.
        DataError: A label is outside the model's classes.
    """
    if program.is_quantized or program.exits:
        what = "quantized" if program.is_quantized else f"given {program.exits} early exits"
        raise UsageError(f"the program was {what} already; compress the original program")
    for name, value in program.state_dict().items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise ModelError(f"the weight {name} is {str(value.dtype).removeprefix('torch.')}; "
                             "call model.float() first")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ModelError(f"the weight {name} holds NaN or infinity; load weights from a "
                             "training that did not diverge")
    classes = check_program(program, task)
    if task.num_classes is not None and task.num_classes != classes:
        raise ModelError(f"the model returns logits of {classes} classes, but the task names "
                         f"{task.num_classes}; they must be equal")
