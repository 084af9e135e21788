"""Capture a model with samples of a task."""

from __future__ import annotations

import inspect

from torch import nn

from edgewright.program import Program
from edgewright.task import Task


def capture_model(model: nn.Module, task: Task) -> Program:
    """Capture a model with two training samples of a task.

    Inputs that the task has by name are passed by name, if the model's forward pass has arguments
    of these names, else by position. The program's inputs are in the task's order.

    Raises:
        ModelError: The model cannot be captured.

    Example:
        >>> import torch
        >>> class Masked(nn.Linear):
        ...     def forward(self, x, scale=None, mask=None):
        ...         return super().forward(x * mask)
        >>> samples = [{"mask": torch.ones(4), "x": torch.randn(4), "label": i % 2}
        ...            for i in range(6)]
        >>> task = Task(samples, samples[:3], samples[3:], inputs=("mask", "x"))
        >>> capture_model(Masked(4, 2), task).input_names
        ('mask', 'x')
    """
    inputs, names = task.train.example(2), task.train.input_names
    if names is not None and _accepts(model, names):
        return Program.capture(model, kwargs=dict(zip(names, inputs, strict=True)))
    return Program.capture(model, inputs)


def _accepts(model: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether the forward pass has arguments of these names."""
    forward = getattr(model, "forward", None)
    if forward is None:
        return False
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):  # forward is not a Python function
        return False
    return all(name in parameters and parameters[name].kind
               in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
               for name in names)
