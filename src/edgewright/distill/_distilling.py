"""Learning from a teacher: its outputs, its features, and the labels."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from edgewright.distill._config import Distillation
from edgewright.distill._feature_losses import FEATURE_LOSSES
from edgewright.distill._logit_losses import LOGIT_LOSSES
from edgewright.distill._teacher import Taught, Teacher
from edgewright.errors import ModelError, UsageError
from edgewright.task import Batch
from edgewright.training import Objective, label_loss


@final
class Distilling(Objective):
    """The loss that `Distillation` describes, with a teacher.

    Args:
        teacher: Says of every batch what its outputs are.
        settings: Which losses, and what they weigh.
        label_smoothing: In the cross-entropy with the labels.
        features: How many of the first outputs are features, to be compared with the teacher's in
            order; the rest are logits, one tensor an exit.

    Raises:
        UsageError: There are features, but no settings for them.

    Example:
        >>> from edgewright.distill import ModuleTeacher
        >>> objective = Distilling(ModuleTeacher(torch.nn.Identity()), Distillation(alpha=1.0))
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> batch = Batch((logits,), torch.tensor([0, 1]), torch.arange(2))
        >>> float(objective.loss((logits,), batch))
        0.0
    """

    def __init__(self, teacher: Teacher, settings: Distillation | None = None, *,
                 label_smoothing: float = 0.0, features: int = 0) -> None:
        self._teacher = teacher
        self._settings = Distillation() if settings is None else settings
        if features and self._settings.features is None:
            raise UsageError(f"{features} features are to be compared, but the settings do not "
                             "say how; set features='hints' or another")
        self._label_smoothing = label_smoothing
        self._features = features

    @property
    def name(self) -> str:
        """Identifies the teacher, the objective and its settings in a checkpoint."""
        return (f"Distilling({self._teacher.name}, {self._settings.model_dump_json()}, "
                f"{self._label_smoothing}, {self._features})")

    @property
    def views(self) -> int | None:
        """How many views of the samples the teacher can speak of; None of any."""
        return self._teacher.views

    @property
    def recalls(self) -> bool:
        """Whether the teacher looks samples up by their rows."""
        return self._teacher.recalls

    def to(self, device: torch.device) -> None:
        """Move the teacher."""
        self._teacher.to(device)

    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The loss, averaged over the student's exits and over the features.

        Raises:
            ModelError: Teacher and student have different numbers of classes or of features.
        """
        features, logits = outputs[:self._features], outputs[self._features:]
        taught = self._teacher.teach(batch)
        self._check(features, logits, taught)
        told = precise(taught.logits.detach())
        loss = torch.stack([self._of_exit(precise(one), told, batch.targets)
                            for one in logits]).mean()
        return loss + self._of_features(features, taught) if features else loss

    def _of_exit(self, logits: Tensor, told: Tensor, targets: Tensor) -> Tensor:
        alpha = self._settings.alpha
        soft = alpha * LOGIT_LOSSES[self._settings.logits](logits, told, targets, self._settings)
        if alpha == 1:
            return soft
        hard = label_loss((logits.flatten(0, -2),), label_rows(logits, targets),
                          self._label_smoothing)
        return soft + (1 - alpha) * hard

    def _of_features(self, features: tuple[Tensor, ...], taught: Taught) -> Tensor:
        method = FEATURE_LOSSES[str(self._settings.features)]
        weight = self._settings.feature_weight or method.weight
        losses = [method.loss(precise(mine), precise(theirs.detach()))
                  for mine, theirs in zip(features, taught.features, strict=True)]
        return weight * torch.stack(losses).mean()

    def _check(self, features: tuple[Tensor, ...], logits: tuple[Tensor, ...],
               taught: Taught) -> None:
        for one in logits:
            if one.shape != taught.logits.shape:
                raise ModelError(f"the teacher's output has shape {tuple(taught.logits.shape)}, "
                                 f"the student's {tuple(one.shape)}; they must have the same "
                                 "classes")
        if features and len(features) != len(taught.features):
            raise ModelError(f"the student shows {len(features)} features, the teacher "
                             f"{len(taught.features)}; tap the teacher at the pairs' nodes")


def precise(tensor: Tensor) -> Tensor:
    """A tensor in 32 bits or more, for sums and powers that 16 would not hold."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def label_rows(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets as one row a position: indices (N,), or probabilities (N, classes)."""
    return targets.flatten(0, -2) if targets.ndim == logits.ndim else targets.flatten()
