"""How much the loss rises without a residual branch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgewright.channels import Branch, remove_branch
from edgewright.goals import Goal
from edgewright.program import Program
from edgewright.task import Split
from edgewright.training import measure_loss


def measure_block_damages(program: Program, branches: Sequence[Branch], split: Split,
                          goal: Goal) -> dict[str, float]:
    """The rise of the mean loss without each branch alone, at least 0.

    Nothing is trained: the rise says how much has to be recovered. It takes one pass over the
    samples per branch, and one more.

    Args:
        program: In floating point.
        branches: From `find_branches` of the program.
        split: The samples.
        goal: Its loss is measured.

    Returns:
        The rise by the branch's name; infinite if the loss becomes NaN.

    Example:
        >>> import torch
        >>> from edgewright.channels import find_branches
        >>> from edgewright.goals import Classification
        >>> from edgewright.task import TensorSplit
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).relu()
        >>> x, y = torch.randn(40, 4), torch.arange(40) % 2
        >>> model = torch.nn.Sequential(Residual(4, 4), Residual(4, 4), torch.nn.Linear(4, 2))
        >>> program = Program.capture(model, x)
        >>> found = measure_block_damages(program, find_branches(program), TensorSplit(x, y),
        ...                               Classification())
        >>> sorted(found), min(found.values()) >= 0
        (['0', '1'], True)
    """
    before = measure_loss(program.module(), split, goal)
    found = {}
    for branch in branches:
        after = measure_loss(remove_branch(program, branch).module(), split, goal)
        found[branch.name] = math.inf if math.isnan(after) else max(0.0, after - before)
    return found
