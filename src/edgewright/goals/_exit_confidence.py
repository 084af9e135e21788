"""The confidence of an early exit as a module, which exported files contain."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn

from edgewright.goals._goal import Goal


@final
class ExitConfidence(nn.Module):
    """From an exit's outputs to how sure it is of each sample, by the goal.

    Args:
        goal: The goal; see `Goal.exit_confidence`.

    Example:
        >>> import torch
        >>> from edgewright.goals import MultiLabel
        >>> ExitConfidence(MultiLabel())(torch.zeros(2, 3))
        tensor([0.5000, 0.5000])
    """

    def __init__(self, goal: Goal) -> None:
        super().__init__()
        self._goal = goal

    def forward(self, outputs: Any) -> Tensor:
        """The confidence (N,)."""
        return self._goal.exit_confidence(outputs)


def make_exit_confidence(goal: Goal | None) -> ExitConfidence | None:
    """The module that a file's segments contain; None if the device scores their logits.

    Args:
        goal: The goal; None for a classifier.

    Example:
        >>> from edgewright.goals import Binary, Classification
        >>> make_exit_confidence(Classification()), type(make_exit_confidence(Binary())).__name__
        (None, 'ExitConfidence')
    """
    return None if goal is None or goal.scores_on_device else ExitConfidence(goal)
