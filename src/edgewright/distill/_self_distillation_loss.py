"""Self-distillation: the last exit teaches the early exits."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from edgewright.distill._config import Distillation
from edgewright.distill._predictions import (
    detach_outputs,
    pair_predictions,
    prediction_loss,
    promote_to_float32,
)
from edgewright.goals import Classification, Goal
from edgewright.task import Batch
from edgewright.training import Objective, WrappedObjective


@final
class SelfDistillationLoss(WrappedObjective):
    """Adds self-distillation from the last exit to the early exits to an objective.

    Zhang et al. 2019, "Be your own teacher", section 3: the early exits learn from the outputs of
    the last exit, which receives no gradient from this loss. The objective's loss is increased by
    ::

        self_weight * mean over the early exits of logit_loss(early, last)

    where the loss is the mean over the goal's predictions, and a distance for those without
    classes, as in `DistillationLoss`.

    The paper subtracts the weight (0.3) from that of the early exits' labels; here it is added, so
    that any objective can be combined with it. The paper also compares features of the exits; use
    `Distillation.features` with a teacher for that. Without early exits nothing is added; several
    outputs of one exit never teach each other.

    Args:
        objective: The objective to extend: the goal's loss, or the loss with a teacher.
        settings: ``self_weight``, the logit loss, and the temperature.
        goal: What the outputs are for; None for a classification.
        features: Number of leading outputs that are features.

    Example:
        >>> from edgewright.training import GoalLoss
        >>> inner = GoalLoss(Classification())
        >>> objective = SelfDistillationLoss(inner, Distillation(self_weight=0.3))
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> batch = Batch((), torch.tensor([0]), torch.arange(1))
        >>> alone = inner.loss((logits, logits), batch)
        >>> bool(objective.loss((logits, logits), batch) == alone)
        True
    """

    def __init__(self, objective: Objective, settings: Distillation, *,
                 goal: Goal | None = None, features: int = 0) -> None:
        super().__init__(objective)
        self._goal: Goal = Classification() if goal is None else goal
        self._settings = settings
        self._features = features

    @property
    def name(self) -> str:
        """Identifies both objectives and their settings in a checkpoint."""
        return (f"SelfDistillationLoss({self._objective.name}, {self._settings.model_dump_json()}, "
                f"{self._goal.identity}, {self._features})")

    def loss(self, outputs: tuple[Any, ...], batch: Batch) -> Tensor:
        """The sum of both losses."""
        loss = self._objective.loss(outputs, batch)
        *early, last = outputs[self._features:]
        if not early:
            return loss
        taught = promote_to_float32(detach_outputs(last))
        losses = [prediction_loss(pair, batch.targets, self._settings) for one in early
                  for pair in pair_predictions(self._goal, promote_to_float32(one), taught)]
        return loss + self._settings.self_weight * torch.stack(losses).mean()
