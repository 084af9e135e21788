"""An ensemble of teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.distill._teacher import Teacher, TeacherOutput
from edgewright.errors import ModelError, UsageError
from edgewright.task import Batch


@final
class Ensemble(Teacher):
    """The weighted mean of several teachers' logits, and the concatenation of their features.

    A mean of logits is the geometric mean of the distributions (Hinton, Vinyals & Dean 2015,
    section 1), at every temperature. ``average`` weights all teachers equally. ``confidence``
    weights each teacher per sample by its confidence in the correct class (Zhang, Chen & Wang 2022,
    "Confidence-aware multi-teacher knowledge distillation", its weights of the logits): with K
    teachers and cross-entropies L_k on the sample's label, teacher k has the weight ::

        (1 - exp(L_k) / sum_j exp(L_j)) / (K - 1)

    The paper weights the teachers' losses; here their logits are weighted, so that any loss can be
    computed from them. In a sequence every position has its own weights.

    Args:
        teachers: Two or more, with the same classes.
        weights: ``average`` is a good default; ``confidence`` helps if the teachers differ in
            quality.

    Raises:
        UsageError: Fewer than two teachers, or unknown weights.

    Example:
        >>> from edgewright.distill._teacher import ModuleTeacher
        >>> teachers = [ModuleTeacher(torch.nn.Linear(4, 3)) for _ in range(2)]
        >>> batch = Batch((torch.ones(5, 4),), torch.arange(5) % 3, torch.arange(5))
        >>> Ensemble(teachers, weights="confidence").teach(batch).logits.shape
        torch.Size([5, 3])
    """

    def __init__(self, teachers: Sequence[Teacher],
                 weights: Literal["average", "confidence"] = "average") -> None:
        if len(teachers) < 2:
            raise UsageError(f"an ensemble needs at least two teachers, got {len(teachers)}")
        if weights not in {"average", "confidence"}:
            raise UsageError(f"unknown ensemble weights {weights!r}; expected 'average' or "
                             "'confidence'")
        self._teachers = tuple(teachers)
        self._weights = weights
        self.name = f"{weights} of ({', '.join(teacher.name for teacher in teachers)})"
        self.requires_sample_ids = any(teacher.requires_sample_ids for teacher in teachers)
        self.views = min((teacher.views for teacher in teachers if teacher.views is not None),
                         default=None)

    def to(self, device: torch.device) -> None:
        """Move every teacher."""
        for teacher in self._teachers:
            teacher.to(device)

    def teach(self, batch: Batch) -> TeacherOutput:
        """The weighted mean of the teachers' outputs.

        Raises:
            ModelError: The teachers have different classes.
        """
        outputs = [teacher.teach(batch) for teacher in self._teachers]
        self._check(outputs)
        logits = torch.stack([one.logits.float() for one in outputs])
        if self._weights == "average":
            mean = logits.mean(dim=0)
        else:
            mean = (confidence_weights(logits, batch.targets)[..., None] * logits).sum(dim=0)
        return TeacherOutput(mean, tuple(feature for one in outputs for feature in one.features))

    def _check(self, outputs: Sequence[TeacherOutput]) -> None:
        shapes = [tuple(one.logits.shape) for one in outputs]
        if len(set(shapes)) > 1:
            found = ", ".join(f"{teacher.name}: {shape}"
                              for teacher, shape in zip(self._teachers, shapes, strict=True))
            raise ModelError(f"the teachers of an ensemble return logits of different shapes "
                             f"({found}); they must have the same classes")


def confidence_weights(logits: Tensor, targets: Tensor) -> Tensor:
    """The weights of `Ensemble`'s equation, which sum to 1 over the teachers.

    Args:
        logits: (teachers, N, ..., classes), of at least two teachers.
        targets: Class indices (N, ...), or probabilities (N, ..., classes).

    Returns:
        (teachers, N, ...).

    Example:
        >>> logits = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])
        >>> confidence_weights(logits, torch.tensor([0])).flatten().round(decimals=3).tolist()
        [1.0, 0.0]
    """
    if targets.is_floating_point():
        losses = -(F.log_softmax(logits, dim=-1) * targets).sum(dim=-1)
    else:
        losses = torch.stack([F.cross_entropy(one.movedim(-1, 1), targets, reduction="none")
                              for one in logits])
    return (1 - losses.softmax(dim=0)) / (len(logits) - 1)
