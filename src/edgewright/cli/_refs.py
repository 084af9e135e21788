"""Model and data references of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.core import ModelSpec, Preprocessing
from edgewright.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from edgewright.program import Program
    from edgewright.task import Task


def load_reference(reference: str, weights: Path | None) -> nn.Module | Program:
    """The program in a ``.pt2`` file, or the module that any other reference names.

    Raises:
        UsageError: Weights were given for a saved program, which has its own.
        ModelError: The reference or the weights cannot be loaded.
    """
    from edgewright.program import Program
    from edgewright.task import load_model

    if not reference.endswith(".pt2"):
        return load_model(reference, weights)
    if weights is not None:
        raise UsageError(f"--weights {weights}: the saved program {reference} has its own weights")
    return Program.load(reference)


def capture_reference(reference: str, weights: Path | None, task: Task | None,
                      shape: str | None) -> Program:
    """The program in a ``.pt2`` file, or that of any other reference, captured.

    Args:
        reference: The reference.
        weights: Weights of a model reference.
        task: Its first training samples are the input.
        shape: Alternatively, the input's shape without the batch, as in ``3,224,224``.

    Raises:
        UsageError: Nothing, or two things, say what the input is, or it is no list of sizes.
        ModelError: The reference or the weights cannot be loaded, or the model not captured.
    """
    import torch

    from edgewright.program import Program

    loaded = load_reference(reference, weights)
    if isinstance(loaded, Program):
        return loaded
    if (task is None) == (shape is None):
        raise UsageError(f"to capture {reference}, give its input with either --data or --shape")
    if task is not None:
        return Program.capture(loaded, task.train.example(2))
    try:
        sizes = [int(size) for size in str(shape).split(",")]
    except ValueError as error:
        raise UsageError(f"--shape {shape!r} is not a list of sizes; write it as 3,224,224"
                         ) from error
    return Program.capture(loaded, torch.zeros(2, *sizes))


def load_bundle_task(reference: str, model: ModelSpec) -> Task:
    """A task whose images are normalized as the bundle's were."""
    from edgewright.task import load_task, parse_data_ref

    given = model.preprocessing
    if not (isinstance(given, Preprocessing) and parse_data_ref(reference).is_normalized_by_task):
        return load_task(reference)
    return load_task(reference, normalize=",".join(map(repr, (*given.mean, *given.std))))
