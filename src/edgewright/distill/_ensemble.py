"""An ensemble of teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.distill._teacher import Teacher, TeacherOutput
from edgewright.errors import ModelError, UsageError
from edgewright.goals import Categorical, Classification, Goal, Prediction
from edgewright.task import Batch

_IGNORED: Final = -100


@final
class Ensemble(Teacher):
    """The weighted mean of several teachers' outputs, and the concatenation of their features.

    Every floating-point tensor of the outputs is averaged; other entries are the first teacher's.
    For logits the mean is the geometric mean of the distributions (Hinton, Vinyals & Dean 2015,
    section 1), at every temperature. ``average`` weights all teachers equally. ``confidence``
    weights each teacher per sample by its confidence in the correct class (Zhang, Chen & Wang 2022,
    "Confidence-aware multi-teacher knowledge distillation", its weights of the logits): with K
    teachers and cross-entropies L_k on the sample's label, teacher k has the weight ::

        (1 - exp(L_k) / sum_j exp(L_j)) / (K - 1)

    The paper weights the teachers' losses; here their logits are weighted, so that any loss can be
    computed from them. Every pixel or position has its own weights; those whose target is no class
    are averaged. These weights need a goal with one prediction over classes, which is then all that
    the ensemble returns, and targets.

    Args:
        teachers: Two or more, whose outputs have the same names and shapes.
        weights: ``average`` is a good default; ``confidence`` helps if the teachers differ in
            quality.
        goal: What the outputs are for, which only ``confidence`` uses; None for a classification.

    Raises:
        UsageError: Fewer than two teachers, or unknown weights.

    Example:
        >>> from edgewright.distill._teacher import ModuleTeacher
        >>> teachers = [ModuleTeacher(torch.nn.Linear(4, 3)) for _ in range(2)]
        >>> batch = Batch((torch.ones(5, 4),), torch.arange(5) % 3, torch.arange(5))
        >>> Ensemble(teachers, weights="confidence").teach(batch).outputs.shape
        torch.Size([5, 3])
    """

    def __init__(self, teachers: Sequence[Teacher],
                 weights: Literal["average", "confidence"] = "average",
                 goal: Goal | None = None) -> None:
        if len(teachers) < 2:
            raise UsageError(f"an ensemble needs at least two teachers, got {len(teachers)}")
        if weights not in {"average", "confidence"}:
            raise UsageError(f"unknown ensemble weights {weights!r}; expected 'average' or "
                             "'confidence'")
        self._teachers = tuple(teachers)
        self._weights = weights
        self._goal: Goal = Classification() if goal is None else goal
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
            ModelError: The teachers' outputs differ in names or shapes.
            UsageError: ``confidence`` for a goal without classes, or for samples without targets.
        """
        outputs = [teacher.teach(batch) for teacher in self._teachers]
        features = tuple(feature for one in outputs for feature in one.features)
        whole = _combine([one.outputs for one in outputs], self._describe)
        if self._weights == "average":
            return TeacherOutput(whole, features)
        predictions = [self._find_logits(one.outputs) for one in outputs]
        return TeacherOutput(self._weigh(predictions, batch.targets), features)

    def _find_logits(self, outputs: Any) -> Prediction:
        """The one prediction over classes."""
        found = self._goal.predictions(outputs)
        if len(found) != 1 or not isinstance(found[0].kind, Categorical):
            raise UsageError("weights='confidence' needs a goal with one prediction over classes, "
                             f"but the goal is {self._goal.name}; use weights='average'")
        return found[0]

    def _weigh(self, predictions: Sequence[Prediction], targets: Any) -> Tensor:
        kind = predictions[0].kind
        assert isinstance(kind, Categorical)  # noqa: S101 - _find_logits checks it
        if not isinstance(targets, Tensor):
            raise UsageError("weights='confidence' needs the class of every sample, but there are "
                             "no such targets; use weights='average'")
        whole = torch.stack([one.tensor.float() for one in predictions])
        logits = whole.movedim(kind.axis + (kind.axis >= 0), -1)
        if targets.ndim == logits.ndim - 1:  # probabilities
            targets = targets.movedim(kind.axis, -1)
        mean = (confidence_weights(logits, targets)[..., None] * logits).sum(dim=0)
        return mean.movedim(-1, kind.axis)

    def _describe(self, found: Sequence[str]) -> str:
        return ", ".join(f"{teacher.name}: {one}"
                         for teacher, one in zip(self._teachers, found, strict=True))


def _combine(outputs: Sequence[Any], describe: Callable[[Sequence[str]], str]) -> Any:
    """The mean of every floating-point tensor of several teachers' outputs."""
    first = outputs[0]
    kinds = [_kind(one) for one in outputs]
    if len(set(kinds)) > 1:
        raise ModelError(f"the teachers of an ensemble return outputs of different names or shapes "
                         f"({describe(kinds)}); they must have the same classes and outputs")
    if isinstance(first, Mapping):
        return {name: _combine([one[name] for one in outputs], describe) for name in first}
    if isinstance(first, tuple | list):
        return tuple(_combine(parts, describe) for parts in zip(*outputs, strict=True))
    if isinstance(first, Tensor) and first.is_floating_point():
        return torch.stack([one.float() for one in outputs]).mean(dim=0)
    return first


def _kind(outputs: Any) -> str:
    """Shape of a tensor, names of a dict, length of a tuple, or type of anything else."""
    if isinstance(outputs, Tensor):
        return str(tuple(outputs.shape))
    if isinstance(outputs, Mapping):
        return f"a dict of {', '.join(sorted(map(str, outputs)))}"
    if isinstance(outputs, tuple | list):
        return f"{len(outputs)} outputs"
    return type(outputs).__name__


def confidence_weights(logits: Tensor, targets: Tensor) -> Tensor:
    """The weights of `Ensemble`'s equation, which sum to 1 over the teachers.

    Args:
        logits: (teachers, N, ..., classes), of at least two teachers.
        targets: Class indices (N, ...), or probabilities (N, ..., classes). Where an index is no
            class, all teachers have the same weight.

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
        known = (targets >= 0) & (targets < logits.shape[-1])
        classes = targets.where(known, _IGNORED)
        losses = torch.stack([F.cross_entropy(one.movedim(-1, 1), classes, reduction="none",
                                              ignore_index=_IGNORED) for one in logits])
    return (1 - losses.softmax(dim=0)) / (len(logits) - 1)
