"""A goal of the user's own: any loss and any metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgewright.errors import DataError, EdgewrightError, ModelError, UsageError
from edgewright.goals._goal import Goal
from edgewright.goals._kinds import PredictionKind, Values
from edgewright.goals._metrics import Metric, NamedMetric, name_metrics
from edgewright.goals._origin import Origin
from edgewright.goals._outputs import Prediction, named_outputs, select_output
from edgewright.goals._probabilities import give_probabilities


@final
@dataclass(frozen=True)
class CustomGoal(Goal):
    """Any loss and any metrics, called with what the model returns and the targets of the data.

    Args:
        loss_function: From outputs and targets to a scalar, the mean over the samples.
        metric: Metrics by name, the primary one first; objects with update, compute and reset, such
            as those of torchmetrics. Each says whether higher is better (``higher_is_better``).
        unit: Unit of every metric; ``fraction`` is shown as a percentage.
        kinds: What each output's numbers mean, by name ("" for a model with one output); outputs
            that are not listed are auxiliary. None takes all outputs as `Values`. If a model's only
            output is `Bernoulli` or `Categorical`, metrics of ``torchmetrics.classification`` get
            its probabilities; else they get what the model returns, and guess what it is.
        lists_targets: Whether loss and metrics take the targets of a batch as a list with one per
            sample, which may differ in size.

    Raises:
        UsageError: The loss cannot be called, or a metric is none.

    Example:
        >>> import torchmetrics
        >>> goal = CustomGoal(lambda outputs, targets: (outputs - targets).abs().mean(),
        ...                   {"mae": torchmetrics.MeanAbsoluteError()})
        >>> goal.metrics[0].spec.higher_is_better
        False
    """

    loss_function: Callable[[Any, Any], Tensor]
    metric: Mapping[str, Metric]
    unit: str = ""
    kinds: Mapping[str, PredictionKind] | None = None
    lists_targets: bool = False
    name: ClassVar[str] = "custom"
    requires_targets = False

    def __post_init__(self) -> None:
        if not callable(self.loss_function):
            raise UsageError(f"the loss is {self.loss_function!r}; expected a function of outputs "
                             "and targets")
        name_metrics(self.metric.items(), {})

    @property
    def exit_obstacle(self) -> str:
        """That of the kind of the one output."""
        if self.kinds is None:
            return "its kinds do not say what its output means"
        if len(self.kinds) != 1:
            return f"it has {len(self.kinds)} outputs, an exit returns one"
        kind, = self.kinds.values()
        return kind.no_confidence

    @property
    def metrics(self) -> tuple[NamedMetric, ...]:
        """The user's metrics."""
        named = name_metrics(self.metric.items(), dict.fromkeys(self.metric, self.unit))
        kinds = list((self.kinds or {}).values())
        return give_probabilities(named, kinds[0].probabilities) if len(kinds) == 1 else (*named,)

    def predictions(self, outputs: Any) -> tuple[Prediction, ...]:
        """The outputs that ``kinds`` lists, or all."""
        kinds: Mapping[str, PredictionKind] = (
            dict.fromkeys(named_outputs(outputs), Values()) if self.kinds is None else self.kinds)
        if isinstance(outputs, Tensor) and len(kinds) > 1:
            raise ModelError(f"the goal {self.name} expects the outputs {', '.join(kinds)}, but "
                             "the model returns a single tensor")
        return tuple(Prediction(*select_output(outputs, name, self.name), kind)
                     for name, kind in kinds.items())

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The user's loss.

        Raises:
            UsageError: It returns anything but a scalar tensor.
        """
        loss = self.loss_function(outputs, targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(f"the loss returned {found}; expected a tensor with one number, the "
                             "mean over the samples")
        return loss.reshape(())

    def check_targets(self, targets: Any, origin: Origin, outputs: Any = None) -> Any:
        """The targets as they are.

        Raises:
            DataError: They differ in size and ``lists_targets`` is not set.
        """
        del outputs
        if isinstance(targets, list) and not self.lists_targets:
            raise DataError(f"{origin.targets} cannot be stacked, because they differ in size; set "
                            "CustomGoal(lists_targets=True) to get a list with one per sample")
        return targets


def check_loss(goal: Goal, outputs: Any, targets: Any) -> None:
    """Check that a goal's loss is a finite number with a gradient.

    Args:
        goal: The goal.
        outputs: The model's outputs for a batch, with gradients.
        targets: The batch's targets.

    Raises:
        ModelError: It is not finite, and neither are the outputs.
        UsageError: It raises, is not finite, or does not depend on the outputs.
    """
    try:
        loss = goal.loss(outputs, targets)
    except EdgewrightError:
        raise
    except Exception as error:
        raise UsageError(f"the loss of the goal {goal.name} failed on the first training samples: "
                         f"{type(error).__name__}: {error}") from error
    if not bool(torch.isfinite(loss)):
        tensors = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise ModelError("the model returns NaN or infinity for the first training samples; "
                             "check its weights and the inputs")
        raise UsageError(f"the loss of the goal {goal.name} is {loss.item()} on the first training "
                         "samples; expected a finite number")
    if not _depends_on(loss, outputs):
        raise UsageError(f"the loss of the goal {goal.name} has no gradient with respect to the "
                         "model's outputs; compute it from the outputs with torch operators")


def _depends_on(loss: Tensor, outputs: Any) -> bool:
    """Whether a loss has a gradient with respect to one of the outputs."""
    tracked = [leaf for leaf in pytree.tree_leaves(outputs)
               if isinstance(leaf, Tensor) and leaf.requires_grad]
    if not loss.requires_grad or not tracked:
        return False
    slopes = torch.autograd.grad(loss, tracked, retain_graph=True, allow_unused=True)
    return any(slope is not None for slope in slopes)
