"""A network with early exits as its own teacher."""

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
    """An objective, and beside it the last exit as a teacher of the earlier ones.

    Zhang et al. 2019, "Be your own teacher", section 3: every early exit's logits are told by the
    last one's, which take no gradient from it. To the objective's own loss is added ::

        self_weight * mean over the early exits of logit_loss(early, last)

    The paper takes the share (0.3) away from the labels of the early exits; here it is added, so
    that any objective can be combined with it. It compares features of the exits too; that is what
    `Distillation.features` does with a teacher. With a single exit there is nothing to add.

    Args:
        objective: What is minimised beside: the labels, or a teacher's loss.
        settings: ``self_weight``, and which loss on the logits, how soft.
        features: How many of the first outputs are features and no logits.

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
        """Both losses."""
        loss = self._objective.loss(outputs, batch)
        *early, last = [promote_to_float32(one) for one in outputs[self._features:]]
        if not early:
            return loss
        teach = LOGIT_LOSSES[self._settings.logits]
        losses = [teach(one, last.detach(), batch.targets, self._settings) for one in early]
        return loss + self._settings.self_weight * torch.stack(losses).mean()
