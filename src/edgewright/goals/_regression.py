"""Goals of real values: regression, and reconstruction of the input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.core import DecodeStep, MetricSpec, Numbers
from edgewright.errors import DataError, UsageError
from edgewright.goals._goal import SinglePrediction
from edgewright.goals._kinds import PredictionKind, Values
from edgewright.goals._metrics import Auroc, Metric, NamedMetric, torchmetric
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import check_prediction
from edgewright.goals._targets import as_answers, as_values, check_target_shape

ValueLoss = Literal["mse", "l1", "smooth_l1"]
_LOSSES: Final = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}


def _check_loss(loss: str) -> None:
    if loss not in _LOSSES:
        raise UsageError(f"unknown loss {loss!r}; expected {', '.join(map(repr, _LOSSES))}")


@final
@dataclass(frozen=True)
class Regression(SinglePrediction):
    """Real values per sample: an age, key points, a depth map, a sharper image.

    The model returns (N, ...), the targets have the same shape; (N, 1) and (N,) are taken for each
    other. The metrics are the mean absolute error and the root of the mean squared error. For
    super-resolution pass ``metric={"psnr": torchmetrics.image.PeakSignalNoiseRatio(...)}``.

    Args:
        loss_name: ``mse`` (default), ``l1`` if outliers must not dominate, or ``smooth_l1``
            between the two.
        unit: Unit of the values, such as "years"; empty if they have none.
        tolerance: Largest difference, in units of ``scale``, at which the file's and the program's
            predictions count as equal.
        output: Name or position of the prediction, if the model has several outputs.
        metric: Other metrics by name, the primary one first.
        scale: Size of a typical difference between two samples, such as the standard deviation of
            the targets. By default the standard deviation of the predictions of all samples that a
            pass compares.

    Raises:
        UsageError: ``loss_name`` is unknown, the tolerance is negative, or the scale not positive.

    Example:
        >>> goal = Regression("l1", unit="years")
        >>> float(goal.loss(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])))
        2.0
        >>> goal.metrics[0].spec
        MetricSpec(name='mae', unit='years', higher_is_better=False)
    """

    loss_name: ValueLoss = "mse"
    unit: str = ""
    tolerance: float = 0.05
    output: str | int | None = None
    metric: Mapping[str, Metric] | None = None
    scale: float | None = None
    name: ClassVar[str] = "regression"

    def __post_init__(self) -> None:
        _check_loss(self.loss_name)
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise UsageError(f"scale must be a finite number above 0, got {self.scale}; give the "
                             "standard deviation of the targets, or leave it out")
        Values(self.tolerance, self.scale)

    @property
    def kind(self) -> PredictionKind:
        """Real values."""
        return Values(self.tolerance, self.scale)

    @property
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        """Mean absolute error, and root mean squared error."""
        return value_metrics(self.unit)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss that the settings name, the mean over all values."""
        prediction = self.select(outputs)
        return _LOSSES[self.loss_name](prediction, targets.reshape(prediction.shape))

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        """Prediction and targets of one shape."""
        prediction = self.select(outputs)
        return prediction.contiguous(), targets.reshape(prediction.shape)

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Tensor:
        """Finite values, float32, of the shape of the prediction."""
        values = as_values(targets, origin, "real values for each sample")
        if outputs is None:
            return values
        sizes = tuple(self.select(outputs).shape[1:])
        if values.ndim == 1 and sizes == (1,):
            return values[:, None]
        if tuple(values.shape[1:]) == (1,) and not sizes:
            return values[:, 0]
        check_target_shape(values, sizes, origin)
        return values

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        """The values with their unit."""
        return tuple(Numbers(output=found.name, unit=self.unit)
                     for found in self.predictions(outputs))

    def mix(self, targets: Any, other: Tensor, share: float, outputs: Any) -> Tensor:
        """The same mixture of the values."""
        del outputs
        mixed: Tensor = torch.lerp(targets[other], targets, share)
        return mixed


@final
@dataclass(frozen=True)
class Reconstruction(SinglePrediction):
    """The input itself, as an autoencoder returns it.

    Needs no targets, and ignores them; use `Regression` to remove noise. If ``anomalies`` is set,
    the targets of every split are 0 (normal) or 1 (anomalous), the loss is that of the normal
    samples, and the metric is the area under the ROC curve of the reconstruction error.

    Args:
        loss_name: ``mse`` (default), ``l1`` or ``smooth_l1``.
        anomalies: Whether the targets say which samples are anomalous.
        tolerance: Largest difference, in standard deviations of the values, at which the file's and
            the program's predictions count as equal.
        output: Name or position of the reconstruction, if the model has several outputs.
        input: Position of the input that is reconstructed.
        metric: Other metrics by name, the primary one first.
        unit: Their unit.

    Example:
        >>> goal = Reconstruction()
        >>> inputs = (torch.ones(2, 3),)
        >>> float(goal.loss(torch.zeros(2, 3), goal.make_targets(inputs, None)))
        1.0
    """

    loss_name: ValueLoss = "mse"
    anomalies: bool = False
    tolerance: float = 0.05
    output: str | int | None = None
    input: int = 0
    metric: Mapping[str, Metric] | None = None
    unit: str = ""
    name: ClassVar[str] = "reconstruction"

    def __post_init__(self) -> None:
        _check_loss(self.loss_name)

    @property
    def requires_targets(self) -> bool:  # type: ignore[override]
        """Only to tell anomalies."""
        return self.anomalies

    @property
    def kind(self) -> PredictionKind:
        """Real values."""
        return Values(self.tolerance)

    @property
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        """AUROC of the anomalies, or the mean squared error."""
        if self.anomalies:
            return (NamedMetric(MetricSpec(name="auroc", unit="fraction"), Auroc),)
        return value_metrics(self.unit)[::-1]

    def make_targets(self, inputs: tuple[Tensor, ...], targets: Any) -> Any:
        """The input; with ``anomalies`` a dict of the input and the label.

        Raises:
            DataError: The data have no such input.
        """
        if not 0 <= self.input < len(inputs):
            raise DataError(f"the goal reconstructs input {self.input}, but the data have "
                            f"{len(inputs)} inputs; the first one is 0")
        values = inputs[self.input].float()
        return {"input": values, "anomaly": targets} if self.anomalies else values

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss that the settings name, of the normal samples."""
        prediction = self.select(outputs)
        if not self.anomalies:
            return _LOSSES[self.loss_name](prediction, targets.reshape(prediction.shape))
        errors = _LOSSES[self.loss_name](
            prediction, targets["input"].reshape(prediction.shape), reduction="none").flatten(1)
        normal = 1 - targets["anomaly"]
        loss: Tensor = (errors.mean(dim=1) * normal).sum() / normal.sum().clamp_min(1)
        return loss

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        """Reconstruction and input; with ``anomalies`` each sample's error and its label."""
        prediction = self.select(outputs)
        if not self.anomalies:
            return prediction.contiguous(), targets.reshape(prediction.shape)
        errors = (prediction - targets["input"].reshape(prediction.shape)).square().flatten(1)
        return errors.mean(dim=1), targets["anomaly"].long()

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Any:
        """Nothing, or 0 and 1, (N,) float32."""
        del outputs
        if not self.anomalies:
            return None
        labels = as_answers(targets, origin, "1 for each anomalous sample and 0 for the others")
        check_target_shape(labels, (), origin)
        return labels

    def allows_augmentation(self, targets: Any) -> bool:
        """True: the targets are the augmented input."""
        del targets
        return True

    def check_outputs(self, outputs: Any, inputs: tuple[Tensor, ...]) -> None:
        """Check that the reconstruction has as many values as the input."""
        values = inputs[self.input][0].numel()
        for prediction in self.predictions(outputs):
            check_prediction(prediction, len(inputs[0]),
                             f"floating point with the {values} values of the input",
                             lambda sizes: math.prod(sizes) == values)


def value_metrics(unit: str) -> tuple[NamedMetric, ...]:
    """Mean absolute error, and root mean squared error."""
    return (
        NamedMetric(MetricSpec(name="mae", unit=unit, higher_is_better=False),
                    lambda: torchmetric("regression.MeanAbsoluteError")),
        NamedMetric(MetricSpec(name="rmse", unit=unit, higher_is_better=False),
                    lambda: torchmetric("regression.MeanSquaredError", squared=False)))
