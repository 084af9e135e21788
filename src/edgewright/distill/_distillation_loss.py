"""The loss of learning from a teacher: its outputs, its features, and the labels."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor, nn

from edgewright.distill._config import Distillation
from edgewright.distill._feature_losses import FEATURE_LOSSES
from edgewright.distill._logit_losses import LOGIT_LOSSES
from edgewright.distill._teacher import Teacher, TeacherOutput
from edgewright.errors import ModelError, UsageError
from edgewright.task import Batch, Split
from edgewright.training import Objective, Score, check_count, label_loss

_OF_VALUES: Final = frozenset({"mse", "smooth_l1"})  # losses on outputs that need be no logits


@final
class DistillationLoss(Objective):
    """The loss that `Distillation` describes, with a teacher.

    Args:
        teacher: Says of every batch what its outputs are.
        settings: Which losses, and what they weigh.
        label_smoothing: In the cross-entropy with the labels.
        features: How many of the first outputs are features, to be compared with the teacher's in
            order; the rest are logits, one tensor per exit.

    Raises:
        UsageError: There are features, but no settings for them.

    Example:
        >>> from edgewright.distill import ModuleTeacher
        >>> teacher = ModuleTeacher(torch.nn.Identity())
        >>> objective = DistillationLoss(teacher, Distillation(alpha=1.0))
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
        return (f"DistillationLoss({self._teacher.name}, {self._settings.model_dump_json()}, "
                f"{self._label_smoothing}, {self._features})")

    @property
    def views(self) -> int | None:
        """How many views of the samples the teacher can speak of; None of any."""
        return self._teacher.views

    @property
    def requires_sample_ids(self) -> bool:
        """Whether the teacher looks samples up by their rows."""
        return self._teacher.requires_sample_ids

    @property
    def classifies(self) -> bool:
        """Not where the outputs' values alone are fitted, and no label is looked at."""
        return looks_at_labels(self._settings)

    @property
    def features(self) -> int:
        """How many there are."""
        return self._features

    def check(self, outputs: tuple[Tensor, ...], batch: Batch, exits: int) -> None:
        """See that the student's outputs are like the teacher's, one tensor per exit.

        Raises:
            ModelError: They are not.
            UsageError: Values alone are fitted, and the teacher knows none of the validation
                samples, by which the epochs are compared.
        """
        super().check(outputs, batch, exits)
        check_count(outputs, len(batch.targets), exits)
        if self.views is None and not self.requires_sample_ids:
            self._check((), outputs, self._teacher.teach(batch))
        elif not self.classifies:
            raise UsageError(f"logits={self._settings.logits!r} with alpha=1 looks at no label, so "
                             "its epochs are compared by what the teacher says of the validation "
                             "samples, which a teacher cache does not hold; set alpha below 1, or "
                             "learn from a live teacher")

    def validate(self, module: nn.Module, split: Split, *,
                 device: torch.device | None = None) -> Score:
        """Without the features, which no module shows in evaluation mode."""
        if not self._features:
            return super().validate(module, split, device=device)
        plain = DistillationLoss(self._teacher, self._settings,
                                 label_smoothing=self._label_smoothing)
        return plain.validate(module, split, device=device)

    def to(self, device: torch.device) -> None:
        """Move the teacher."""
        self._teacher.to(device)

    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The loss, averaged over the student's exits and over the features.

        Raises:
            ModelError: Teacher and student have different numbers of classes or of features.
        """
        features, logits = outputs[:self._features], outputs[self._features:]
        teacher = self._teacher.teach(batch)
        self._check(features, logits, teacher)
        teacher_logits = promote_to_float32(teacher.logits.detach())
        loss = torch.stack([self._exit_loss(promote_to_float32(one), teacher_logits, batch.targets)
                            for one in logits]).mean()
        return loss + self._feature_loss(features, teacher) if features else loss

    def _exit_loss(self, logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        alpha = self._settings.alpha
        compare = LOGIT_LOSSES[self._settings.logits]
        soft = alpha * compare(logits, teacher_logits, targets, self._settings)
        if alpha == 1:
            return soft
        hard = label_loss((logits.flatten(0, -2),), label_rows(logits, targets),
                          self._label_smoothing)
        return soft + (1 - alpha) * hard

    def _feature_loss(self, features: tuple[Tensor, ...], teacher: TeacherOutput) -> Tensor:
        method = FEATURE_LOSSES[str(self._settings.features)]
        weight = self._settings.feature_weight or method.weight
        losses = [method.loss(promote_to_float32(mine), promote_to_float32(theirs.detach()))
                  for mine, theirs in zip(features, teacher.features, strict=True)]
        return weight * torch.stack(losses).mean()

    def _check(self, features: tuple[Tensor, ...], logits: tuple[Tensor, ...],
               teacher: TeacherOutput) -> None:
        for one in logits:
            if one.shape != teacher.logits.shape:
                raise ModelError(f"the teacher's output has shape {tuple(teacher.logits.shape)}, "
                                 f"the student's {tuple(one.shape)}; they must have the same "
                                 "classes")
            if one.shape[-1] < 2 and self._settings.logits not in _OF_VALUES:
                raise ModelError(f"the student's output has shape {tuple(one.shape)}; of a single "
                                 "class there is nothing to learn: return two logits, or fit the "
                                 "values (logits='mse', alpha=1)")
        if features and len(features) != len(teacher.features):
            raise ModelError(f"the student shows {len(features)} features, the teacher "
                             f"{len(teacher.features)}; tap the teacher at the pairs' nodes")


def looks_at_labels(settings: Distillation) -> bool:
    """Whether the outputs are logits of labelled classes; else their values alone are fitted.

    Example:
        >>> looks_at_labels(Distillation(logits="mse", alpha=1.0))
        False
    """
    return settings.alpha < 1 or settings.logits not in _OF_VALUES


def promote_to_float32(tensor: Tensor) -> Tensor:
    """A tensor in 32 bits or more, for sums and powers that 16 bits cannot hold."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def label_rows(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets as one row per position: indices (N,), or probabilities (N, classes)."""
    return targets.flatten(0, -2) if targets.ndim == logits.ndim else targets.flatten()
