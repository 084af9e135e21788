"""Drop the outputs of a program that its goal does not use."""

from __future__ import annotations

from torch.utils import _pytree as pytree

from edgewright.goals import Goal, named_outputs
from edgewright.program import Program, keep_outputs, output_structure


def keep_predictions(program: Program, goal: Goal, *, with_auxiliary: bool = False) -> Program:
    """The program with the goal's predictions, and its state, as its only outputs.

    Args:
        program: A program without exits, or with exits, which is returned as it is.
        goal: The goal.
        with_auxiliary: Whether to keep the outputs that only the loss reads, too.

    Example:
        >>> import torch
        >>> from edgewright.goals import Regression
        >>> class Heads(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return {"depth": super().forward(x), "hidden": x + 1}
        >>> program = Program.capture(Heads(3, 1), torch.zeros(2, 3))
        >>> keep_predictions(program, Regression(output="depth")).run(torch.zeros(2, 3)).shape
        torch.Size([2, 1])
    """
    if program.exits:
        return program
    outputs = program.run(*program.example_inputs)
    used = {prediction.name for prediction in goal.predictions(outputs)} | _state_keys(program)
    if with_auxiliary:
        used |= set(goal.auxiliary) & named_outputs(outputs).keys()
    if len(used) == len(named_outputs(outputs)):
        return program
    return keep_outputs(program, sorted(used))


def _state_keys(program: Program) -> set[str]:
    """The outputs, by key or position, that contain state."""
    return {key for key, part in named_outputs(output_structure(program)).items()
            if not program.states.keys().isdisjoint(pytree.tree_leaves(part))}
