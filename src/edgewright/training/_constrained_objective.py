"""An objective with constraints on the weights."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from edgewright.task import Batch
from edgewright.training._objective import Objective, WrappedObjective
from edgewright.training._step_hook import StepHook


@final
class ConstrainedObjective(WrappedObjective):
    """An objective that is minimized under constraints or penalties on the weights.

    Args:
        objective: The objective; its own hooks are kept and run first.
        hooks: Hooks that act on gradients and weights around every step.

    Example:
        >>> from edgewright.goals import Binary
        >>> from edgewright.training import GoalLoss
        >>> ConstrainedObjective(GoalLoss(Binary()), (StepHook(),)).name.endswith("under StepHook")
        True
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
        """The objective's own hooks, then the added ones."""
        return (*super().hooks, *self._hooks)

    def loss(self, outputs: tuple[Any, ...], batch: Batch) -> Tensor:
        """The objective's loss."""
        return self._objective.loss(outputs, batch)
