"""Check that a model can be compressed, before anything is written."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.utils import _pytree as pytree

from edgewright.errors import ModelError, UsageError
from edgewright.goals import Goal, check_loss, named_outputs
from edgewright.program import Program, keep_outputs, output_structure
from edgewright.task import Task
from edgewright.training import check_program, update_metric

_SAMPLES: Final = 8


def validate_model(program: Program, task: Task) -> Program:
    """Check that the model serves the task's goal and that its weights are finite float32.

    Returns:
        The program with the outputs that the goal uses; auxiliary outputs are dropped.

    Raises:
        UsageError: The program is compressed already, or the goal's loss is no finite number with a
            gradient.
        ModelError: Weights are not finite float32, or the outputs do not fit the goal.
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
    check_goal(program, task)
    return _keep_predictions(program, task.goal, outputs)


def check_goal(program: Program, task: Task) -> None:
    """Run loss and metrics on a few training samples, so that they fail before any work is done.

    Raises:
        UsageError: The loss is not finite or has no gradient, or a metric raises.
    """
    batch = next(task.train.select(range(min(_SAMPLES, len(task.train)))).batches(_SAMPLES))
    outputs = program.module()(*batch.inputs)
    if any(leaf.requires_grad for leaf in pytree.tree_leaves(outputs)):
        check_loss(task.goal, outputs, batch.targets)
    for metric in task.goal.metrics:
        update_metric(task.goal, metric.make(), outputs, batch.targets)


def _state_keys(program: Program) -> set[str]:
    """The outputs, by key or position, that contain state."""
    structure = output_structure(program)
    parts = (structure if isinstance(structure, dict) else dict(enumerate(structure))
             if isinstance(structure, list) else {})
    return {str(key) for key, part in parts.items()
            if not program.states.keys().isdisjoint(pytree.tree_leaves(part))}


def _keep_predictions(program: Program, goal: Goal, outputs: Any) -> Program:
    """The program without the outputs that the goal does not use and that are no state."""
    used = {prediction.name for prediction in goal.predictions(outputs)} | _state_keys(program)
    if len(used) == len(named_outputs(outputs)):
        return program
    return keep_outputs(program, sorted(used))
