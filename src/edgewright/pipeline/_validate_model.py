"""Check that a model can be compressed, before anything is written."""

from __future__ import annotations

import torch

from edgewright.errors import ModelError, UsageError
from edgewright.pipeline._decode_steps import check_decode_steps
from edgewright.pipeline._predictions import keep_predictions
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import check_program


def validate_model(program: Program, task: Task) -> Program:
    """Check that the model serves the task's goal and that its weights are finite float32.

    Returns:
        The program with the outputs that the goal uses; the others are dropped.

    Raises:
        UsageError: The program is compressed already, the goal's loss is no finite number with a
            gradient, or a metric raises.
        ModelError: Weights are not finite float32, or the outputs do not fit the goal, its decoding
            or the names of the classes.
        DataError: A target does not fit the outputs.
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
    outputs = check_program(program, task)
    classes = task.goal.count_classes(outputs)
    if None not in (task.num_classes, classes) and task.num_classes != classes:
        raise ModelError(f"the model returns logits of {classes} classes, but the task names "
                         f"{task.num_classes}; they must be equal")
    kept = keep_predictions(program, task.goal, with_auxiliary=True)
    check_decode_steps(keep_predictions(kept, task.goal), task)
    return kept
