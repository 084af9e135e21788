"""Self-distillation: the last exit teaches the early exits."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from edgewright.distill._config import Distillation
from edgewright.distill._distillation_loss import promote_to_float32
from edgewright.distill._logit_losses import LOGIT_LOSSES
from edgewright.task import Batch
from edgewright.training import Objective, WrappedObjective


@final
class SelfDistillationLoss(WrappedObjective):
    """Adds self-distillation from the last exit to the early exits to an objective.

    Zhang et al. 2019, "Be your own teacher", section 3: the early exits learn from the logits of
    the last exit, which receives no gradient from this loss. The objective's loss is increased by
    ::

        self_weight * mean over the early exits of logit_loss(early, last)

    The paper subtracts the weight (0.3) from that of the early exits' labels; here it is added, so
    that any objective can be combined with it. The paper also compares features of the exits; use
    `Distillation.features` with a teacher for that. With a single exit nothing is added.

    Args:
        objective: The objective to extend: the label loss, or the loss with a teacher.
        settings: ``self_weight``, the logit loss, and the temperature.
        features: Number of leading outputs that are features, not logits.

    Example:
        >>> from edgewright.training import LabelLoss
        >>> objective = SelfDistillationLoss(LabelLoss(), Distillation(self_weight=0.3))
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> batch = Batch((), torch.tensor([0]), torch.arange(1))
        >>> alone = LabelLoss().loss((logits, logits), batch)
        >>> bool(objective.loss((logits, logits), batch) == alone)
        True
    """

    def __init__(self, objective: Objective, settings: Distillation, *, features: int = 0) -> None:
        super().__init__(objective)
        self._settings = settings
        self._features = features

    @property
    def name(self) -> str:
        """Identifies both objectives and their settings in a checkpoint."""
        return (f"SelfDistillationLoss({self._objective.name}, {self._settings.model_dump_json()}, "
                f"{self._features})")

    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The sum of both losses."""
        loss = self._objective.loss(outputs, batch)
        *early, last = [promote_to_float32(one) for one in outputs[self._features:]]
        if not early:
            return loss
        teach = LOGIT_LOSSES[self._settings.logits]
        losses = [teach(one, last.detach(), batch.targets, self._settings) for one in early]
        return loss + self._settings.self_weight * torch.stack(losses).mean()
