"""The goal's decoding steps under the names that the outputs have in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from edgewright.core import DecodeStep, ModelSpec
from edgewright.errors import BundleError, ModelError
from edgewright.goals import Goal
from edgewright.graph import concrete_size
from edgewright.pipeline._segments import output_specs
from edgewright.program import Program, output_names, output_structure, outputs_of
from edgewright.runtime.decoding import Decoder
from edgewright.task import Task


def find_decode_steps(program: Program, goal: Goal) -> tuple[DecodeStep, ...]:
    """How the file's outputs become answers.

    Args:
        program: The program; if it has exits, the steps are about the one output of the file.
        goal: The task's goal.

    Raises:
        ModelError: A step reads an output that the program does not have.

    Example:
        >>> from edgewright.goals import Regression
        >>> program = Program.capture(torch.nn.Linear(2, 1), torch.zeros(2, 2))
        >>> find_decode_steps(program, Regression(unit="years"))
        (Numbers(step='numbers', output='output_0', unit='years'),)
    """
    structure = "output_0" if program.exits else output_structure(program)
    example = _example_outputs(program, structure)
    names = dict(_paths(structure))

    def rename(path: str) -> str:
        if len(names) == 1:  # whatever its name was before the others were dropped
            return next(iter(names.values()))
        if path not in names:
            raise ModelError(f"the goal {goal.name} decodes the output {path!r}, but the model "
                             f"returns {', '.join(map(repr, names))}")
        return names[path]

    return tuple(step.rename_outputs(rename) for step in goal.decoding(example))


def check_decode_steps(program: Program, task: Task) -> None:
    """Check that a device can decode the outputs as the goal says.

    Raises:
        ModelError: A step does not fit the outputs, or the names of the classes.
    """
    model = ModelSpec(name="", inputs=(), outputs=output_specs(program), segments=(),
                      decoding=find_decode_steps(program, task.goal), classes=task.classes)
    try:
        Decoder(model)
    except BundleError as error:
        raise ModelError(f"the outputs cannot be decoded: {error}; name all classes in the order "
                         "of the outputs, or give another goal") from error


def _example_outputs(program: Program, structure: Any) -> Any:
    """Zeros of the outputs' shapes, nested as the program nests them."""
    nodes = outputs_of(program)
    leaves = {"output_0": nodes[-1]} if program.exits else dict(
        zip(output_names(program), nodes, strict=True))

    def fill(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: fill(inner) for key, inner in part.items()}
        if isinstance(part, list):
            return tuple(map(fill, part))
        value = leaves[part].meta["val"]
        return torch.zeros([concrete_size(size) for size in value.shape], dtype=value.dtype)

    return fill(structure)


def _paths(structure: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Path of keys and positions, and name in the file, of every output."""
    if isinstance(structure, str):
        yield path, structure
        return
    parts = structure.items() if isinstance(structure, Mapping) else enumerate(structure)
    for key, part in parts:
        yield from _paths(part, f"{path}.{key}" if path else str(key))
