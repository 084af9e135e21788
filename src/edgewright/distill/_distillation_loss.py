"""The distillation loss: the teacher's outputs, its features, and the targets."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from edgewright.distill._config import Distillation
from edgewright.distill._feature_losses import FEATURE_LOSSES
from edgewright.distill._predictions import (
    REGRESSION_LOSSES,
    check_prediction_loss,
    detach_outputs,
    pair_predictions,
    prediction_loss,
    promote_to_float32,
)
from edgewright.distill._teacher import Teacher, TeacherOutput
from edgewright.errors import ModelError, UsageError
from edgewright.goals import Classification, Goal
from edgewright.task import Batch, Split
from edgewright.training import GoalLoss, Objective, Score, run_batches


@final
class DistillationLoss(Objective):
    """The loss that `Distillation` describes, with a teacher.

    Teacher and student may return several outputs: the goal's predictions are paired by name, and
    the loss is the mean over the pairs. With ``alpha=1`` there need not be targets; without any,
    epochs are compared by this loss on the validation split.

    Args:
        teacher: The teacher.
        settings: The losses and their weights; None for the defaults.
        goal: What the outputs are for, and the loss with the targets; None for a classification.
            For label smoothing give ``goal.smooth_labels(amount)``.
        features: Number of leading outputs that are features, compared with the teacher's in order;
            the rest are what each exit returns.

    Raises:
        UsageError: There are features, but the settings have no feature loss.

    Example:
        >>> from edgewright.distill import ModuleTeacher
        >>> from edgewright.goals import MultiLabel
        >>> teacher = ModuleTeacher(torch.nn.Identity())
        >>> objective = DistillationLoss(teacher, Distillation(alpha=1.0), goal=MultiLabel())
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> batch = Batch((logits,), None, torch.arange(2))
        >>> float(objective.loss((logits,), batch))
        0.0
    """

    def __init__(self, teacher: Teacher, settings: Distillation | None = None, *,
                 goal: Goal | None = None, features: int = 0) -> None:
        self._teacher = teacher
        self._settings = Distillation() if settings is None else settings
        if features and self._settings.features is None:
            raise UsageError(f"there are {features} features to compare, but the settings have no "
                             "feature loss; set features='hints' or another")
        self._goal: Goal = Classification() if goal is None else goal
        self._features = features

    @property
    def name(self) -> str:
        """Identifies the teacher, the objective and its settings in a checkpoint."""
        return (f"DistillationLoss({self._teacher.name}, {self._settings.model_dump_json()}, "
                f"{self._goal.identity}, {self._features})")

    @property
    def views(self) -> int | None:
        """Number of views that the teacher has outputs for; None for any view."""
        return self._teacher.views

    @property
    def requires_sample_ids(self) -> bool:
        """Whether the teacher looks up samples by row."""
        return self._teacher.requires_sample_ids

    @property
    def goal(self) -> Goal | None:
        """The goal; None if the outputs' values are regressed and no target is used."""
        return None if regresses_outputs(self._settings) else self._goal

    @property
    def features(self) -> int:
        """Number of leading outputs that are features."""
        return self._features

    def check(self, outputs: tuple[Any, ...], batch: Batch, exits: int) -> None:
        """Check that the student's predictions match the teacher's.

        Raises:
            ModelError: They do not match.
            UsageError: Epochs would be compared by the teacher's outputs on the validation samples,
                but the teacher is a cache, which has none; or ``decoupled`` finds no classes.
        """
        super().check(outputs, batch, exits)
        if self.views is None and not self.requires_sample_ids:
            taught = self._teacher.teach(batch).outputs
            for output in outputs:
                for pair in pair_predictions(self._goal, output, taught):
                    check_prediction_loss(pair, batch.targets, self._settings)
        elif regresses_outputs(self._settings):
            self._check_live(f"logits={self._settings.logits!r} with alpha=1 uses no targets")

    def check_loss(self, outputs: tuple[Any, ...], batch: Batch) -> None:
        """Check the goal's loss, if it is used."""
        if self._settings.alpha < 1:
            GoalLoss(self._goal).check_loss(outputs, batch)

    def validate(self, module: nn.Module, split: Split, *, exits: int | None = None,
                 device: torch.device | None = None) -> Score:
        """By the goal's metric if there are targets, else by this loss without the features.

        No module returns features in evaluation mode.

        Raises:
            UsageError: There are no targets, and the teacher is a cache.
        """
        unused = self._settings.alpha == 1  # the targets, which there may not be
        if self.goal is not None and not (unused and _has_no_targets(split)):
            return super().validate(module, split, exits=exits, device=device)
        self._check_live(f"the {split.name} split has no targets")
        total = sum(float(self._output_loss(outputs, self._teacher.teach(batch), batch))
                    * batch.size for outputs, batch
                    in run_batches(module, split, exits=exits, device=device))
        return Score("loss", total / len(split), higher_is_better=False)

    def to(self, device: torch.device) -> None:
        """Move the teacher."""
        self._teacher.to(device)

    def loss(self, outputs: tuple[Any, ...], batch: Batch) -> Tensor:
        """The loss, averaged over the student's exits and over the features.

        Raises:
            ModelError: Predictions of teacher and student do not match, or their numbers of
                features differ.
        """
        features, exits = outputs[:self._features], outputs[self._features:]
        teacher = self._teacher.teach(batch)
        loss = self._output_loss(exits, teacher, batch)
        return loss + self._feature_loss(features, teacher) if features else loss

    def _check_live(self, reason: str) -> None:
        """Raise if the teacher has outputs for the training samples alone."""
        if self.requires_sample_ids or self.views is not None:
            raise UsageError(f"{reason}, so epochs are compared by the teacher's outputs on the "
                             "validation samples, which a teacher cache does not hold; set alpha "
                             "below 1, or use a live teacher")

    def _output_loss(self, exits: tuple[Any, ...], teacher: TeacherOutput, batch: Batch) -> Tensor:
        taught = promote_to_float32(detach_outputs(teacher.outputs))
        return torch.stack([self._exit_loss(promote_to_float32(one), taught, batch.targets)
                            for one in exits]).mean()

    def _exit_loss(self, outputs: Any, taught: Any, targets: Any) -> Tensor:
        alpha = self._settings.alpha
        pairs = pair_predictions(self._goal, outputs, taught)
        soft = alpha * torch.stack([prediction_loss(pair, targets, self._settings)
                                    for pair in pairs]).mean()
        return soft if alpha == 1 else soft + (1 - alpha) * self._goal.loss(outputs, targets)

    def _feature_loss(self, features: tuple[Tensor, ...], teacher: TeacherOutput) -> Tensor:
        if len(features) != len(teacher.features):
            raise ModelError(f"the student returns {len(features)} features, the teacher "
                             f"{len(teacher.features)}; tap the teacher at the pairs' nodes")
        method = FEATURE_LOSSES[str(self._settings.features)]
        weight = self._settings.feature_weight or method.weight
        losses = [method.loss(promote_to_float32(mine), promote_to_float32(theirs.detach()))
                  for mine, theirs in zip(features, teacher.features, strict=True)]
        return weight * torch.stack(losses).mean()


def _has_no_targets(split: Split) -> bool:
    return next(split.select(range(1)).batches(1)).targets is None


def regresses_outputs(settings: Distillation) -> bool:
    """Whether only the outputs' values are regressed, so that neither targets nor softmax are used.

    Example:
        >>> regresses_outputs(Distillation(logits="mse", alpha=1.0))
        True
    """
    return settings.alpha == 1 and settings.logits in REGRESSION_LOSSES
