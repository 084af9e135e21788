"""The distillation loss: the teacher's outputs, its features, and the labels."""

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

_REGRESSION_LOSSES: Final = frozenset({"mse", "smooth_l1"})  # outputs need not be logits


@final
class DistillationLoss(Objective):
    """The loss that `Distillation` describes, with a teacher.

    Args:
        teacher: The teacher.
        settings: The losses and their weights.
        label_smoothing: Label smoothing in the cross-entropy with the labels.
        features: Number of leading outputs that are features, compared with the teacher's in order;
            the rest are logits, one tensor per exit.

    Raises:
        UsageError: There are features, but the settings have no feature loss.

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
            raise UsageError(f"there are {features} features to compare, but the settings have no "
                             "feature loss; set features='hints' or another")
        self._label_smoothing = label_smoothing
        self._features = features

    @property
    def name(self) -> str:
        """Identifies the teacher, the objective and its settings in a checkpoint."""
        return (f"DistillationLoss({self._teacher.name}, {self._settings.model_dump_json()}, "
                f"{self._label_smoothing}, {self._features})")

    @property
    def views(self) -> int | None:
        """Number of views that the teacher has outputs for; None for any view."""
        return self._teacher.views

    @property
    def requires_sample_ids(self) -> bool:
        """Whether the teacher looks up samples by row."""
        return self._teacher.requires_sample_ids

    @property
    def classifies(self) -> bool:
        """False if only the outputs' values are regressed and no label is used."""
        return uses_labels(self._settings)

    @property
    def features(self) -> int:
        """Number of leading outputs that are features."""
        return self._features

    def check(self, outputs: tuple[Tensor, ...], batch: Batch, exits: int) -> None:
        """Check that the student's outputs match the teacher's, one tensor per exit.

        Raises:
            ModelError: They do not match.
            UsageError: Epochs would be compared by the teacher's outputs on the validation samples,
                but the teacher is a cache, which has none.
        """
        super().check(outputs, batch, exits)
        check_count(outputs, len(batch.targets), exits)
        if self.views is None and not self.requires_sample_ids:
            self._check((), outputs, self._teacher.teach(batch))
        elif not self.classifies:
            raise UsageError(f"logits={self._settings.logits!r} with alpha=1 uses no labels, so "
                             "epochs are compared by the teacher's outputs on the validation "
                             "samples, which a teacher cache does not hold; set alpha below 1, or "
                             "use a live teacher")

    def validate(self, module: nn.Module, split: Split, *,
                 device: torch.device | None = None) -> Score:
        """Validate without the features, which no module returns in evaluation mode."""
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
        hard = label_loss((logits.flatten(0, -2),), flatten_targets(logits, targets),
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
            if one.shape[-1] < 2 and self._settings.logits not in _REGRESSION_LOSSES:
                raise ModelError(f"the student's output has shape {tuple(one.shape)}; there is "
                                 "nothing to learn from a single class: return two logits, or "
                                 "regress the values (logits='mse', alpha=1)")
        if features and len(features) != len(teacher.features):
            raise ModelError(f"the student returns {len(features)} features, the teacher "
                             f"{len(teacher.features)}; tap the teacher at the pairs' nodes")


def uses_labels(settings: Distillation) -> bool:
    """Whether the loss uses labels or softmax; False if only the outputs' values are regressed.

    Example:
        >>> uses_labels(Distillation(logits="mse", alpha=1.0))
        False
    """
    return settings.alpha < 1 or settings.logits not in _REGRESSION_LOSSES


def promote_to_float32(tensor: Tensor) -> Tensor:
    """Convert 16-bit tensors to float32, because sums and powers may overflow."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def flatten_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Flatten targets to one row per position: indices (N,), or probabilities (N, classes)."""
    return targets.flatten(0, -2) if targets.ndim == logits.ndim else targets.flatten()
