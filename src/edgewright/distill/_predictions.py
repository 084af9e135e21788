"""Pair the predictions of student and teacher, and compare each pair by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.distill._config import Distillation
from edgewright.distill._logit_losses import LOGIT_LOSSES, target_classes
from edgewright.errors import ModelError, UsageError
from edgewright.goals import Goal, PredictionKind

REGRESSION_LOSSES: Final = frozenset({"mse", "smooth_l1"})  # on the outputs, whatever they mean


class PredictionPair(NamedTuple):
    """A prediction of the student, and the teacher's of the same name.

    Attributes:
        name: Its name among the outputs; empty for a model with one output.
        student: (N, ...), floating point.
        teacher: The same shape.
        kind: What the numbers mean.
    """

    name: str
    student: Tensor
    teacher: Tensor
    kind: PredictionKind


def pair_predictions(goal: Goal, student: Any, teacher: Any) -> tuple[PredictionPair, ...]:
    """Pair the goal's predictions by name; a teacher's single tensor is the goal's one prediction.

    Args:
        goal: Says which outputs are predictions.
        student: What the student returns: a tensor, or a dict or tuple of tensors.
        teacher: What the teacher returns; it may have other auxiliary outputs.

    Raises:
        ModelError: A prediction is missing, is not floating point, or the two differ in shape.

    Example:
        >>> from edgewright.goals import Segmentation
        >>> outputs = {"out": torch.zeros(1, 2, 4, 4), "aux": torch.zeros(1, 2)}
        >>> teacher = {"out": torch.ones(1, 2, 4, 4)}
        >>> [pair.name for pair in pair_predictions(Segmentation(output="out"), outputs, teacher)]
        ['out']
    """
    mine = goal.predictions(student)
    theirs = _find_predictions(goal, teacher, [prediction.name for prediction in mine])
    pairs = tuple(PredictionPair(prediction.name, prediction.tensor, tensor, prediction.kind)
                  for prediction, tensor in zip(mine, theirs, strict=True))
    for pair in pairs:
        _check_pair(pair)
    return pairs


def _find_predictions(goal: Goal, teacher: Any, names: list[str]) -> list[Tensor]:
    """The teacher's predictions of these names, in this order."""
    if isinstance(teacher, Tensor) and len(names) == 1:
        return [teacher]
    try:
        found = goal.predictions(teacher)
    except ModelError as error:
        raise ModelError(f"the teacher's outputs do not fit the goal: {error}") from error
    if [prediction.name for prediction in found] == names or (len(found) == 1 and names == [""]):
        return [prediction.tensor for prediction in found]
    tensors = {prediction.name: prediction.tensor for prediction in found}
    if missing := [name for name in names if name not in tensors]:
        raise ModelError(f"the teacher has no prediction {_list(missing)} to compare the student's "
                         f"with; it has {_list(tensors)}: give both the same names")
    return [tensors[name] for name in names]


def _check_pair(pair: PredictionPair) -> None:
    for who, tensor in (("student", pair.student), ("teacher", pair.teacher)):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            found = (str(tensor.dtype).removeprefix("torch.") if isinstance(tensor, Tensor) else
                     f"a {type(tensor).__name__}")
            raise ModelError(f"the {who}'s {describe(pair.name)} is {found}; only floating-point "
                             "tensors can be distilled: return logits or values, without an argmax")
    if pair.student.shape != pair.teacher.shape:
        raise ModelError(f"the teacher's {describe(pair.name)} has shape "
                         f"{tuple(pair.teacher.shape)}, the student's {tuple(pair.student.shape)}; "
                         "they must have the same "
                         + ("size" if pair.kind.class_logits(pair.student) is None else "classes"))


def prediction_loss(pair: PredictionPair, targets: Any, settings: Distillation) -> Tensor:
    """The loss between a prediction of the student and the teacher's.

    With classes (exclusive ones, or the answers yes and no) the logit loss of the settings, over
    the classes of every sample and position; else the distance of the prediction's kind: half the
    squared difference in units of the teacher's variance for values, 1 - cosine for embeddings.
    ``mse`` and ``smooth_l1`` compare the outputs themselves, whatever their kind.

    Args:
        pair: Both predictions.
        targets: The batch's targets; only ``decoupled`` uses them.
        settings: The losses and the temperature.

    Returns:
        The mean over samples and positions, a scalar.

    Raises:
        ModelError: There is a single class.
        UsageError: ``decoupled`` without targets that are classes.

    Example:
        >>> from edgewright.goals import Bernoulli
        >>> logits = torch.tensor([[2.0], [0.0]])
        >>> pair = PredictionPair("", logits, logits, Bernoulli())
        >>> float(prediction_loss(pair, None, Distillation()))
        0.0
    """
    compare = LOGIT_LOSSES[settings.logits]
    if settings.logits in REGRESSION_LOSSES:
        return compare(pair.student, pair.teacher, torch.empty(0), settings)
    student, teacher = map(pair.kind.class_logits, (pair.student, pair.teacher))
    if student is None or teacher is None:
        return pair.kind.distance(pair.student, pair.teacher)
    _check_classes(pair, student)
    if settings.logits != "decoupled":
        return compare(student, teacher, torch.empty(0), settings)
    student, teacher, classes = _leave_out_ignored(
        student, teacher, _find_classes(pair, student, targets))
    return compare(student, teacher, classes, settings) if len(student) else 0 * student.sum()


def check_prediction_loss(pair: PredictionPair, targets: Any, settings: Distillation) -> None:
    """Check that `prediction_loss` can be computed, before the values of the targets are checked.

    Raises:
        ModelError: There is a single class.
        UsageError: ``decoupled`` without targets that are classes.
    """
    logits = pair.kind.class_logits(pair.student)
    if logits is None or settings.logits in REGRESSION_LOSSES:
        return
    _check_classes(pair, logits)
    if settings.logits == "decoupled":
        _find_classes(pair, logits, targets)


def _check_classes(pair: PredictionPair, logits: Tensor) -> None:
    if logits.shape[-1] < 2:
        raise ModelError(f"the student's {describe(pair.name)} has shape "
                         f"{tuple(pair.student.shape)}; there is nothing to learn from a single "
                         "class: return two logits, or use the goal binary or regression")


def _find_classes(pair: PredictionPair, logits: Tensor, targets: Any) -> Tensor:
    """The target class of every sample and position, for logits (N, ..., classes)."""
    if isinstance(targets, Mapping):
        targets = targets.get(pair.name)
    if not isinstance(targets, Tensor):
        raise UsageError("logits='decoupled' compares the target class with the others, but there "
                         f"are no classes for the {describe(pair.name)} among the targets; use "
                         "logits='hinton'")
    if targets.shape == pair.student.shape and logits.ndim == targets.ndim:  # probabilities
        moved = pair.kind.class_logits(targets)
        targets = targets if moved is None else moved
    elif logits.ndim > pair.student.ndim:  # answers, yes or no
        targets = targets.reshape(pair.student.shape).round().long()
    return target_classes(logits, targets)


def _leave_out_ignored(student: Tensor, teacher: Tensor, classes: Tensor,
                       ) -> tuple[Tensor, Tensor, Tensor]:
    """Leave out the positions whose target is no class, such as those a segmentation ignores."""
    if classes.ndim == 1:
        return student, teacher, classes
    kept = (classes >= 0) & (classes < student.shape[-1])
    return (student, teacher, classes) if bool(kept.all()) else (
        student[kept], teacher[kept], classes[kept])


def promote_to_float32(outputs: Any) -> Any:
    """Convert 16-bit tensors to float32, because sums and powers may overflow.

    Example:
        >>> promote_to_float32({"out": torch.zeros(1).half()})
        {'out': tensor([0.])}
    """
    return pytree.tree_map_only(
        Tensor, lambda one: one.float() if one.dtype in (torch.float16, torch.bfloat16) else one,
        outputs)


def detach_outputs(outputs: Any) -> Any:
    """The same outputs without gradients."""
    return pytree.tree_map_only(Tensor, Tensor.detach, outputs)


def describe(name: str) -> str:
    """A prediction in a sentence: "output 'age'", or "output" of a model with one."""
    return f"output {name!r}" if name else "output"


def _list(names: Any) -> str:
    return ", ".join(repr(name) if name else "without a name" for name in names)
