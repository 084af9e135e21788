"""Goals with exclusive classes: one per sample, or one per pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, TypeAlias, final

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgewright.core import ClassMask, ClassProbabilities, DecodeStep, MetricSpec
from edgewright.errors import ModelError, UsageError
from edgewright.goals._goal import SinglePrediction
from edgewright.goals._kinds import Categorical, PredictionKind
from edgewright.goals._metrics import Accuracy, Metric, NamedMetric, torchmetric
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import check_prediction, describe_output, describe_shape
from edgewright.goals._targets import as_indices, check_indices, check_target_shape

Weights: TypeAlias = Sequence[float] | Tensor | NDArray[Any]
ACCURACY: Final = MetricSpec(name="accuracy", unit="fraction")


class _Classes(SinglePrediction):
    """What both goals share: cross-entropy over the classes in one dimension."""

    class_axis: int = 1
    class_weights: Weights | None
    label_smoothing: float

    @property
    def ignored(self) -> int | None:
        """Target of positions that do not count; None counts all."""
        return None

    @property
    def kind(self) -> PredictionKind:
        """Logits over classes in dimension ``class_axis``."""
        return Categorical(self.class_axis)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Cross-entropy with class indices, or with probabilities (N, classes, ...)."""
        logits = self.select(outputs)
        weight = (None if self.class_weights is None else
                  torch.as_tensor(self.class_weights, device=logits.device, dtype=logits.dtype))
        ignored = -100 if self.ignored is None else self.ignored  # torch's "none" is -100
        return F.cross_entropy(self.classes_second(logits), targets, weight, ignore_index=ignored,
                               label_smoothing=self.label_smoothing)

    def exit_quality(self, outputs: Any, full: Any, targets: Any) -> Tensor:
        """Share of the positions that count whose class is right; 1 if none counts."""
        del full
        right = self.select(outputs).argmax(dim=1) == targets
        counts = torch.ones_like(right) if self.ignored is None else targets != self.ignored
        right, counts = ((right & counts).reshape(len(right), -1).sum(dim=1).double(),
                         counts.reshape(len(right), -1).sum(dim=1))
        return torch.where(counts > 0, right / counts.clamp_min(1), 1.0)

    def count_classes(self, outputs: Any) -> int | None:
        """Size of the classes' dimension."""
        return self.select(outputs).shape[self.class_axis]

    def classes_second(self, logits: Tensor) -> Tensor:
        """The logits with the classes in dimension 1, (N, classes, ...)."""
        return logits if self.class_axis == 1 else logits.movedim(self.class_axis, 1)

    def _check_weights(self, classes: int) -> None:
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ModelError(f"class_weights has {len(self.class_weights)} entries, but the model "
                             f"has {classes} classes")


def _check_settings(goal: _Classes) -> None:
    if not 0 <= goal.label_smoothing < 1:
        raise UsageError(f"label_smoothing must be at least 0 and below 1, got "
                         f"{goal.label_smoothing}")
    if goal.class_weights is not None and not all(weight >= 0 for weight in goal.class_weights):
        raise UsageError(f"class_weights must not be negative, got {goal.class_weights}")


@final
@dataclass(frozen=True)
class Classification(_Classes):
    """One of several classes per sample; the default goal.

    The model returns logits (N, classes), the targets are class indices (N,). The metric is
    accuracy.

    Args:
        output: Name or position of the logits, if the model has several outputs.
        class_weights: Weight of each class in the loss, for classes of very different sizes.
        label_smoothing: Share of the target distributed over all classes (Szegedy et al. 2016).
        metric: Other metrics by name, the primary one first.
        unit: Their unit; ``fraction`` is shown as a percentage.

    Example:
        >>> goal = Classification()
        >>> logits = torch.zeros(3, 2)
        >>> round(float(goal.loss(logits, torch.tensor([0, 1, 1]))), 4)
        0.6931
        >>> [found.spec.name for found in goal.metrics]
        ['accuracy']
    """

    output: str | int | None = None
    class_weights: Weights | None = None
    label_smoothing: float = 0.0
    metric: Mapping[str, Metric] | None = None
    unit: str = ""
    name: ClassVar[str] = "classification"
    scores_on_device = True
    exit_measure = "accuracy"

    def __post_init__(self) -> None:
        _check_settings(self)

    @property
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        """Accuracy."""
        return (NamedMetric(ACCURACY, Accuracy),)

    def allows_augmentation(self, targets: Any) -> bool:
        """True: a class does not depend on the position."""
        del targets
        return True

    def smooth_labels(self, amount: float) -> Classification:
        """This goal with that label smoothing, unless the amount is 0."""
        return replace(self, label_smoothing=amount) if amount else self

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Tensor:
        """Class indices (N,), int64."""
        indices = as_indices(targets, origin, 1, "the index of each sample's class")
        check_indices(indices, None if outputs is None else self.count_classes(outputs), origin)
        return indices

    def check_outputs(self, outputs: Any, inputs: tuple[Tensor, ...]) -> None:
        """Check that the prediction is floating-point logits (N, classes)."""
        samples = len(inputs[0])
        for prediction in self.predictions(outputs):
            if fault := _suggest_fix(prediction.tensor, samples):
                raise ModelError(f"{describe_output(prediction.name)} of the model is "
                                 f"{describe_shape(prediction.tensor, samples)}; expected "
                                 "floating-point logits (N, classes) with at least two classes. "
                                 f"{fault}")
            self._check_weights(prediction.tensor.shape[1])

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        """The most probable classes."""
        return tuple(ClassProbabilities(output=found.name) for found in self.predictions(outputs))

    def mix(self, targets: Any, other: Tensor, share: float, outputs: Any) -> Tensor:
        """Probabilities (N, classes), float32."""
        labels = F.one_hot(targets, self.select(outputs).shape[1]).float()
        return torch.lerp(labels[other], labels, share)


@final
@dataclass(frozen=True)
class Segmentation(_Classes):
    """One of several classes per pixel (or per position of a volume or a sequence).

    The model returns logits (N, classes, H, W), the targets are class indices (N, H, W) of the
    same size. The metric is the mean intersection over union of the classes. For a class per token,
    as in (N, tokens, classes), set ``class_axis`` to -1.

    Args:
        ignore_index: Target of pixels that neither loss nor metric counts; None counts all.
        output: Name or position of the logits, if the model has several outputs, such as "out".
        class_axis: Dimension of the classes, 1 or later; negative ones count from the last.
        class_weights: Weight of each class in the loss.
        label_smoothing: Share of the target distributed over all classes.
        metric: Other metrics by name, the primary one first.
        unit: Their unit; ``fraction`` is shown as a percentage.

    Example:
        >>> goal = Segmentation(ignore_index=255)
        >>> logits, targets = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]])
        >>> round(float(goal.loss({"out": logits}, targets)), 4)
        0.6931
        >>> goal.metrics[0].spec.name
        'miou'
    """

    ignore_index: int | None = None
    output: str | int | None = None
    class_axis: int = 1
    class_weights: Weights | None = None
    label_smoothing: float = 0.0
    metric: Mapping[str, Metric] | None = None
    unit: str = ""
    name: ClassVar[str] = "segmentation"
    exit_measure = "pixel_accuracy"

    def __post_init__(self) -> None:
        _check_settings(self)
        if self.class_axis == 0:
            raise UsageError("class_axis is 0, the dimension of the samples; the classes are in "
                             "dimension 1 or later, such as -1")

    @property
    def ignored(self) -> int | None:
        """``ignore_index``."""
        return self.ignore_index

    @property
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        """Mean IoU, and accuracy of the pixels."""
        return (NamedMetric(MetricSpec(name="miou", unit="fraction"),
                            lambda: MeanIoU(self.ignore_index, self.class_axis)),
                NamedMetric(MetricSpec(name="pixel_accuracy", unit="fraction"),
                            lambda: Accuracy(self.class_axis, self.ignore_index)))

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Cross-entropy, the mean over the pixels that count; 0 if there are none."""
        if self.ignore_index is not None and bool((targets == self.ignore_index).all()):
            return 0 * self.select(outputs).sum()
        return super().loss(outputs, targets)

    def smooth_labels(self, amount: float) -> Segmentation:
        """This goal with that label smoothing, unless the amount is 0."""
        return replace(self, label_smoothing=amount) if amount else self

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        """The class of each pixel."""
        return tuple(ClassMask(output=found.name, axis=self.class_axis)
                     for found in self.predictions(outputs))

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Tensor:
        """Class indices (N, ...), int64."""
        logits = None if outputs is None else self.classes_second(self.select(outputs))
        indices = as_indices(targets, origin, None if logits is None else logits.ndim - 1,
                             "the class index of each pixel")
        check_indices(indices, None if logits is None else logits.shape[1], origin,
                      self.ignore_index)
        if logits is not None:
            check_target_shape(indices, tuple(logits.shape[2:]), origin)
        return indices

    def check_outputs(self, outputs: Any, inputs: tuple[Tensor, ...]) -> None:
        """Check that the prediction is floating-point logits with a dimension of classes."""
        expected = ("(N, classes, height, width)" if self.class_axis == 1
                    else f"with the classes in dimension {self.class_axis}")
        for prediction in self.predictions(outputs):
            check_prediction(prediction, len(inputs[0]),
                             f"floating-point logits {expected} with at least two classes. For one "
                             "logit per pixel use goal='multi-label'", self._has_classes)
            self._check_weights(prediction.tensor.shape[self.class_axis])

    def _has_classes(self, sizes: tuple[int, ...]) -> bool:
        """Whether the sizes after the batch are of positions and of at least two classes."""
        axis = self.class_axis - (self.class_axis > 0)  # without the batch
        return len(sizes) > 1 and -len(sizes) <= axis < len(sizes) and sizes[axis] > 1


@final
class MeanIoU:
    """Mean over the classes of intersection over union, from torchmetrics' confusion matrix.

    Classes that neither the predictions nor the targets hold are left out, and so is the ignored
    one, as in torchmetrics.

    Args:
        ignore_index: Target of pixels that are not counted.
        axis: Dimension of the classes.
    """

    def __init__(self, ignore_index: int | None, axis: int = 1) -> None:
        self._ignored, self._axis = ignore_index, axis
        self._matrix: Any = None

    def update(self, predictions: Tensor, targets: Tensor, /) -> None:
        """Add a batch of logits (N, classes, ...) and class indices (N, ...)."""
        if self._matrix is None:
            self._matrix = torchmetric("classification.MulticlassConfusionMatrix",
                                       num_classes=predictions.shape[self._axis],
                                       ignore_index=self._ignored)
        self._matrix.update(predictions.argmax(dim=self._axis), targets)

    def compute(self) -> float:
        """The mean; NaN without pixels."""
        if self._matrix is None:
            return float("nan")
        matrix = self._matrix.compute().double()
        both = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - both
        counted = union > 0
        if self._ignored is not None and 0 <= self._ignored < len(matrix):
            counted[self._ignored] = False
        return float((both[counted] / union[counted]).mean())

    def reset(self) -> None:
        """Forget all batches."""
        self._matrix = None


def _suggest_fix(output: Tensor, samples: int) -> str:
    """A suggestion for an output that is not a tensor of logits; empty if it is one."""
    if output.ndim != 2 or output.shape[0] != samples:
        return ("Use another goal for more than one prediction per sample (goal='segmentation' "
                "for pixels), or pool or flatten the other dimensions")
    if not output.is_floating_point():
        return "Return the logits themselves, not the result of argmax or of a complex transform"
    if output.shape[1] < 2:
        return "For a single logit use goal='binary', for a value goal='regression'"
    return ""
