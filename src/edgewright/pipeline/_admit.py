"""What can be compressed: refused by name before anything is written."""

from __future__ import annotations

import torch

from edgewright.errors import ModelError, UsageError
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline._scheme import scheme_at_first
from edgewright.program import Program
from edgewright.quantization import place, resolve
from edgewright.task import Task
from edgewright.training import check_program, check_trainable


def admit(program: Program, task: Task, recipe: Recipe) -> None:
    """See that a model is a float32 classifier of the task's classes, with sound weights.

    Raises:
        UsageError: A program that is compressed already, or wholly frozen where the recipe trains.
        ModelError: Weights that are no finite float32, or outputs other than one of logits.
        DataError: A label that is none of the model's classes.
    """
    if program.is_quantized or program.exits:
        what = "quantised" if program.is_quantized else f"given {program.exits} early exits"
        raise UsageError(f"the program was {what} already; compress the one from before that")
    for name, value in program.state_dict().items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise ModelError(f"the weight {name} is {str(value.dtype).removeprefix('torch.')}; "
                             "call model.float() first")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ModelError(f"the weight {name} holds NaN or infinity; load weights of a training "
                             "that did not diverge")
    classes = check_program(program, task)
    if task.num_classes is not None and task.num_classes != classes:
        raise ModelError(f"the model returns logits of {classes} classes, but the task names "
                         f"{task.num_classes}; they must agree")
    if recipe.recover is not None or (recipe.weights is not None and recipe.weights.training):
        check_trainable(program.graph_module)


def admit_scheme(program: Program, recipe: Recipe) -> None:
    """See that a recipe's quantisation fits a model, before anything is trained for it.

    Raises:
        UsageError: It breaks a rule of its target, or a pattern of its ``layers`` matches nothing.
    """
    scheme = scheme_at_first(recipe, program)
    if scheme is not None:
        place(program, resolve(scheme))
