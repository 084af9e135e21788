"""`Goal`: what a model's outputs are for, and the base class of goals with one prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from edgewright.core import DecodeStep, Numbers
from edgewright.errors import UsageError
from edgewright.goals._identity import identify
from edgewright.goals._kinds import PredictionKind
from edgewright.goals._metrics import Metric, NamedMetric, name_metrics
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import Prediction, check_prediction, select_output
from edgewright.goals._probabilities import give_probabilities
from edgewright.goals._scales import kinds_with_scales


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far two models make the same decisions by one prediction.

    Attributes:
        decision: What counts as the same decision, such as "same top class".
        shares: Share of each sample's decisions that are the same, 0 to 1, (N,).
    """

    decision: str
    shares: Tensor


class Goal(ABC):
    """What a model's outputs are for: loss, metrics, and what counts as the same decision.

    Every pass asks the task's goal instead of assuming a classifier. Subclass it, or
    `SinglePrediction`, for a goal that `CustomGoal` cannot describe.

    Attributes:
        name: What reports call it.
        requires_targets: Whether every split needs targets.
        lists_targets: Whether the targets of a batch are a list with one per sample, which may
            differ in size, such as boxes. Else they are stacked.
        scores_on_device: Whether a device computes the score of an early exit from its logits
            (N, classes), by a policy that is chosen after the file is made. Else the score is
            `exit_confidence`, computed inside the file.
        exit_measure: Name of the metric whose share per sample is `exit_quality`; ``agreement`` is
            that with the full network.
    """

    name: ClassVar[str]
    requires_targets: bool = True
    lists_targets: bool = False
    scores_on_device: bool = False
    exit_measure: str = "agreement"

    @property
    def identity(self) -> str:
        """Identifies the goal and its settings in a checkpoint or a run; equal in every process."""
        return identify(self)

    @property
    @abstractmethod
    def metrics(self) -> tuple[NamedMetric, ...]:
        """The metrics; budgets, epochs and reports are about the first one."""

    @abstractmethod
    def predictions(self, outputs: Any) -> tuple[Prediction, ...]:
        """The outputs that the goal uses.

        Args:
            outputs: What the model returns: a tensor, or a dict or tuple of tensors.

        Raises:
            ModelError: The output that the goal names is missing, or several could be meant.
        """

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss to minimize, the mean over the samples, a scalar.

        Args:
            outputs: What the model returns.
            targets: The targets as `check_targets` returns them.
        """

    @abstractmethod
    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Any:
        """Check a batch's targets and convert them to the types that loss and metrics take.

        Args:
            targets: The targets as the data hold them; None if there are none.
            origin: The split and the rows they belong to.
            outputs: The model's outputs for some batch, if they are known; their shapes bound the
                targets.

        Raises:
            DataError: They do not fit the goal or the outputs; the message names the sample.
        """

    @property
    def auxiliary(self) -> tuple[str, ...]:
        """Names of outputs that only the loss reads; they are dropped when a file is made."""
        return ()

    def make_targets(self, inputs: tuple[Tensor, ...], targets: Any) -> Any:
        """What loss and metrics compare the outputs with; by default the checked targets.

        Args:
            inputs: The model's inputs after augmentation.
            targets: The checked targets.
        """
        del inputs
        return targets

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        """What `Metric.update` is called with; by default the model's outputs and the targets."""
        return outputs, targets

    def agree(self, first: Any, second: Any,
              scales: Sequence[float] = ()) -> tuple[Agreement, ...]:
        """How far two models make the same decisions, by each prediction; by default by its kind.

        Args:
            first: What the reference returns for a batch.
            second: What the other model returns for it.
            scales: Standard deviation of each prediction over all batches (`measure_scales`);
                empty if this batch is all that is compared.
        """
        ours = self.predictions(first)
        found = zip(ours, self.predictions(second), kinds_with_scales(ours, scales), strict=True)
        return tuple(Agreement(kind.agreement, kind.agree(one.tensor, other.tensor))
                     for one, other, kind in found)

    def check_outputs(self, outputs: Any, inputs: tuple[Tensor, ...]) -> None:
        """Check that a model's outputs fit the goal.

        Args:
            outputs: What the model returns for a batch.
            inputs: The batch's inputs.

        Raises:
            ModelError: They do not fit; the message lists them.
        """
        for prediction in self.predictions(outputs):
            check_prediction(prediction, len(inputs[0]))

    def smooth_labels(self, amount: float) -> Goal:
        """This goal with label smoothing in its loss.

        Raises:
            UsageError: The amount is not 0 and the goal has no classes.
        """
        if amount:
            raise UsageError(f"label_smoothing={amount} needs classes, but the task's goal is "
                             f"{self.name}; set it to 0")
        return self

    def mix(self, targets: Any, other: Tensor, share: float, outputs: Any) -> Any:
        """Targets of mixed samples: ``share`` of each sample, the rest of another one.

        Args:
            targets: The targets of the batch.
            other: Index of the sample that each one is mixed with, (N,).
            share: Share of the sample itself.
            outputs: The model's outputs for some batch.

        Raises:
            UsageError: Targets of this goal cannot be mixed.
        """
        del targets, other, share, outputs
        raise UsageError(f"mixup and cutmix cannot mix the targets of the goal {self.name}; leave "
                         "them at 0")

    def decoding(self, outputs: Any) -> tuple[DecodeStep, ...]:
        """How a device turns the outputs into answers, one step per prediction.

        By default the values as they are.

        Args:
            outputs: The model's outputs for some batch.
        """
        return tuple(Numbers(output=prediction.name) for prediction in self.predictions(outputs))

    def count_classes(self, outputs: Any) -> int | None:
        """Number of classes that the outputs distinguish; None if the goal has no classes."""
        del outputs
        return None

    def allows_augmentation(self, targets: Any) -> bool:
        """Whether targets stay right when an image is shifted, mirrored or distorted.

        Args:
            targets: The checked targets.
        """
        del targets
        return False

    @property
    def exit_obstacle(self) -> str:
        """Why no sample can leave at an early exit; empty if samples can.

        By default that no single prediction is known to have a confidence.
        """
        return "it does not say which prediction tells how sure it is"

    def exit_confidence(self, outputs: Any) -> Tensor:
        """How sure an early exit is of each sample, by its outputs alone; by default by its kind.

        Args:
            outputs: What the exit returns for a batch, as the model returns its outputs.

        Returns:
            0 to 1, (N,); a sample leaves if it reaches the exit's threshold.

        Raises:
            UsageError: See `exit_obstacle`.
        """
        if self.exit_obstacle:
            raise UsageError(f"the goal {self.name} cannot have early exits: {self.exit_obstacle}")
        prediction, = self.predictions(outputs)
        return prediction.kind.confidence(prediction.tensor)

    def exit_quality(self, outputs: Any, full: Any, targets: Any) -> Tensor:
        """How good an exit's decisions are; leaving costs the full network's quality minus this.

        By default the share of a sample's decisions that are those of the full network; goals with
        targets count right decisions instead, so that a cost is from -1 to 1.

        Args:
            outputs: What the exit returns for a batch.
            full: What the full network returns for it.
            targets: The targets, as in `loss`.

        Returns:
            0 to 1, (N,).
        """
        del targets
        agreement, = self.agree(full, outputs)
        return agreement.shares


class SinglePrediction(Goal):
    """Base class of goals with one prediction.

    A subclass is a frozen dataclass with the fields ``output`` and ``metric``, or sets them.

    Attributes:
        output: Name (of a dict's entry) or position (in a tuple) of the output that is the
            prediction; the others are auxiliary and dropped at export. None if there is only one.
        metric: Metrics by name instead of the goal's own, the first one is primary; objects with
            update, compute and reset, called with the prediction and the targets. Those of
            ``torchmetrics.classification`` get the probabilities of the logits, because they would
            take logits that happen to lie between 0 and 1 for probabilities.
        unit: Unit of the metrics in ``metric``.
    """

    output: str | int | None = None
    metric: Mapping[str, Metric] | None = None
    unit: str = ""

    @property
    @abstractmethod
    def kind(self) -> PredictionKind:
        """What the prediction's numbers mean."""

    @property
    @abstractmethod
    def own_metrics(self) -> tuple[NamedMetric, ...]:
        """The metrics if the user gives none."""

    @property
    def exit_obstacle(self) -> str:
        """That of the kind of the prediction."""
        return self.kind.no_confidence

    @property
    def metrics(self) -> tuple[NamedMetric, ...]:
        """The user's metrics, or the goal's own."""
        if self.metric is None:
            return self.own_metrics
        named = name_metrics(self.metric.items(), dict.fromkeys(self.metric, self.unit))
        return give_probabilities(named, self.kind.probabilities)

    def select(self, outputs: Any) -> Tensor:
        """The prediction among a model's outputs.

        Raises:
            ModelError: It is missing, or several outputs could be meant.
        """
        return select_output(outputs, self.output, self.name)[1]

    def predictions(self, outputs: Any) -> tuple[Prediction, ...]:
        """The one prediction."""
        name, tensor = select_output(outputs, self.output, self.name)
        return (Prediction(name, tensor, self.kind),)

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Any, Any]:
        """The prediction, and the targets."""
        return self.select(outputs), targets
