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


def load_bundle_task(reference: str, model: ModelSpec) -> Task:
    """A task whose images are normalized as the bundle's were."""
    from edgewright.task import load_task, parse_data_ref

    given = model.preprocessing
    if not (isinstance(given, Preprocessing) and parse_data_ref(reference).is_normalized_by_task):
        return load_task(reference)
    return load_task(reference, normalize=",".join(map(repr, (*given.mean, *given.std))))
