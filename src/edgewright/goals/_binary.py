"""Goals of yes-or-no questions: one per sample, or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch.nn.functional as F
from torch import Tensor

from edgewright.core import Answers, DecodeStep, MetricSpec
from edgewright.errors import UsageError
from edgewright.goals._goal import SinglePrediction
from edgewright.goals._kinds import Bernoulli, PredictionKind
from edgewright.goals._metrics import Auroc, Metric, NamedMetric, torchmetric
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import check_prediction
from edgewright.goals._targets import as_answers, check_target_shape


class _Answers(SinglePrediction):
    """What both goals share: one logit per question, and binary cross-entropy."""

    exit_measure = "accuracy"

    @property
    def kind(self) -> PredictionKind:
        """Logits of yes-or-no questions."""
        return Bernoulli()

    def exit_quality(self, outputs: Any, full: Any, targets: Any) -> Tensor:
        """Share of the sample's answers that are right."""
        del full
        logits = self.select(outputs)
        right = (logits > 0) == (targets.reshape(logits.shape) > 0)
        share: Tensor = right.reshape(len(right), -1).double().mean(dim=1)
        return share

    def smooth_labels(self, amount: float) -> _Answers:
        """Label smoothing is not used with binary cross-entropy; 0 only."""
        super().smooth_labels(amount)
        return self

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        """The answer to each question, with its probability."""
        return tuple(Answers(output=found.name) for found in self.predictions(outputs))


@final
@dataclass(frozen=True)
class Binary(_Answers):
    """One yes-or-no question per sample.

    The model returns one logit per sample, (N,) or (N, 1); the targets are 0 or 1, (N,) or (N, 1),
    of any type. The metrics are accuracy and the area under the ROC curve.

    Args:
        positive_weight: Weight of the positive samples in the loss, above 1 if they are rare.
        output: Name or position of the logit, if the model has several outputs.
        metric: Other metrics by name, the primary one first.
        unit: Their unit; ``fraction`` is shown as a percentage.

    Example:
        >>> import torch
        >>> goal = Binary()
        >>> round(float(goal.loss(torch.zeros(2, 1), torch.tensor([0.0, 1.0]))), 4)
        0.6931
    """

    positive_weight: float = 1.0
    output: str | int | None = None
    metric: Mapping[str, Metric] | None = None
    unit: str = ""
    name: ClassVar[str] = "binary"

    def __post_init__(self) -> None:
        if not self.positive_weight > 0:
            raise UsageError(f"positive_weight must be above 0, got {self.positive_weight}")

    @property
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        """Accuracy, and the area under the ROC curve."""
        return (NamedMetric(MetricSpec(name="accuracy", unit="fraction"), SignAccuracy),
                NamedMetric(MetricSpec(name="auroc", unit="fraction"), Auroc))

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Binary cross-entropy."""
        logits = self.select(outputs).flatten()
        return F.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=logits.new_tensor(self.positive_weight))

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        """The logits (N,) and the answers (N,) as integers."""
        return self.select(outputs).flatten(), targets.long()

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Tensor:
        """0 or 1, (N,) float32."""
        del outputs
        answers = as_answers(targets, origin, "0 or 1 for each sample")
        if answers.ndim == 2 and answers.shape[1] == 1:
            answers = answers[:, 0]
        check_target_shape(answers, (), origin)
        return answers

    def allows_augmentation(self, targets: Any) -> bool:
        """True: an answer for each image does not depend on the position."""
        del targets
        return True

    def check_outputs(self, outputs: Any, inputs: tuple[Tensor, ...]) -> None:
        """Check that the prediction is (N,) or (N, 1)."""
        for prediction in self.predictions(outputs):
            check_prediction(prediction, len(inputs[0]),
                             "one floating-point logit per sample, (N,) or (N, 1)",
                             lambda sizes: sizes in ((), (1,)))


@final
@dataclass(frozen=True)
class MultiLabel(_Answers):
    """Several yes-or-no questions per sample, such as tags, or one per pixel.

    The model returns logits (N, labels) or (N, ...), the targets are 0 or 1, of the same shape and
    any type. The metrics are the F1 score and the accuracy over all answers.

    Args:
        output: Name or position of the logits, if the model has several outputs.
        metric: Other metrics by name, the primary one first.
        unit: Their unit; ``fraction`` is shown as a percentage.

    Example:
        >>> MultiLabel().metrics[0].spec.name
        'f1'
    """

    output: str | int | None = None
    metric: Mapping[str, Metric] | None = None
    unit: str = ""
    name: ClassVar[str] = "multi-label"

    @property
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        """The F1 score over all answers, and their accuracy."""
        return (NamedMetric(MetricSpec(name="f1", unit="fraction"), SignF1),
                NamedMetric(MetricSpec(name="accuracy", unit="fraction"), SignAccuracy))

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Binary cross-entropy, the mean over all answers."""
        return F.binary_cross_entropy_with_logits(self.select(outputs), targets)

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        """The logits and the answers as integers."""
        return self.select(outputs), targets.long()

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Tensor:
        """0 or 1, float32, of the shape of the prediction."""
        answers = as_answers(targets, origin, "0 or 1 for each label of each sample")
        if outputs is not None:
            check_target_shape(answers, tuple(self.select(outputs).shape[1:]), origin)
        return answers

    def allows_augmentation(self, targets: Any) -> bool:
        """Whether the labels are about whole images, (N, labels)."""
        return bool(targets.ndim == 2)


@final
class SignAccuracy:
    """Share of the answers that are right; a positive logit means yes.

    Example:
        >>> import torch
        >>> metric = SignAccuracy()
        >>> metric.update(torch.tensor([2.0, -1.0]), torch.tensor([1, 1]))
        >>> metric.compute()
        0.5
    """

    def __init__(self) -> None:
        self._correct = self._total = 0

    def update(self, predictions: Tensor, targets: Tensor, /) -> None:
        """Add a batch of logits and answers of the same shape."""
        self._correct += int(((predictions > 0) == (targets > 0)).sum())
        self._total += targets.numel()

    def compute(self) -> float:
        """The share; NaN without answers."""
        return self._correct / self._total if self._total else float("nan")

    def reset(self) -> None:
        """Forget all batches."""
        self._correct = self._total = 0


@final
class SignF1:
    """F1 score over all answers; a positive logit means yes.

    torchmetrics is given the answers, because it takes logits that happen to lie between 0 and 1
    for probabilities.
    """

    def __init__(self) -> None:
        self._metric = torchmetric("classification.BinaryF1Score")

    def update(self, predictions: Tensor, targets: Tensor, /) -> None:
        """Add a batch of logits and answers of the same shape."""
        self._metric.update((predictions > 0).long(), targets)

    def compute(self) -> Any:
        """The score."""
        return self._metric.compute()

    def reset(self) -> None:
        """Forget all batches."""
        self._metric.reset()
