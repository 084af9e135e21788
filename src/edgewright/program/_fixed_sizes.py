"""Refusing programs with dynamic dimensions where a size must be known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewright.core import SizeRange
from edgewright.errors import ModelError

if TYPE_CHECKING:
    from edgewright.program._program import Program


def check_fixed_sizes(program: Program, what: str) -> None:
    """Check that the inputs have no dynamic dimension but the batch.

    Args:
        program: The program.
        what: What needs fixed sizes, in the plural, for the message.

    Raises:
        ModelError: They have; the message names the input and the range.

    Example:
        >>> import torch
        >>> from edgewright.program import Program
        >>> program = Program.capture(torch.nn.Conv1d(4, 8, 3), torch.zeros(1, 4, 20),
        ...                           dynamic={"input": {2: (16, 400)}})
        >>> check_fixed_sizes(program, "early exits")
        Traceback (most recent call last):
            ...
        edgewright.errors.ModelError: early exits need inputs of one size, but 'input_1' has shape \
(N, 4, 16..400); capture the model without dynamic=, at the size that the device uses
    """
    for spec in program.inputs:
        if any(isinstance(size, SizeRange) for size in spec.shape):
            raise ModelError(f"{what} need inputs of one size, but {spec.name!r} has shape "
                             f"{spec.shape_text}; capture the model without dynamic=, at the size "
                             "that the device uses")
