"""An objective under constraints."""

from __future__ import annotations

from typing import final

from torch import Tensor

from edgewright.task import Batch
from edgewright.training._objective import Objective, WrappedObjective
from edgewright.training._step_hook import StepHook


@final
class Constrained(WrappedObjective):
    """An objective that is minimised under constraints or penalties on the weights.

    Args:
        objective: The loss; what constrains it already still does, first.
        hooks: What acts on gradients and weights around every step.

    Example:
        >>> from edgewright.training import LabelLoss
        >>> Constrained(LabelLoss(), (StepHook(),)).name
        'LabelLoss(0.0) under StepHook'
    """

    def __init__(self, objective: Objective, hooks: tuple[StepHook, ...]) -> None:
        super().__init__(objective)
        self._hooks = hooks

    @property
    def name(self) -> str:
        """Identifies the objective, the hooks and their settings in a checkpoint."""
        return " under ".join([self._objective.name, *(hook.name for hook in self._hooks)])

    @property
    def hooks(self) -> tuple[StepHook, ...]:
        """The objective's own hooks, then these."""
        return (*super().hooks, *self._hooks)

    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The objective's loss."""
        return self._objective.loss(outputs, batch)
