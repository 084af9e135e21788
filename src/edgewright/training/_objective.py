"""What training minimizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgewright.errors import DataError
from edgewright.goals import Goal, check_loss
from edgewright.task import Batch, Split
from edgewright.training._evaluate import check_metrics, evaluate_module, run_batches
from edgewright.training._score import Score
from edgewright.training._step_hook import StepHook


class Objective(ABC):
    """A loss on the model's outputs, which `train` minimizes.

    It also defines which outputs are valid and how epochs are compared. A subclass accepts any
    outputs by default, and epochs are compared by its mean loss on the validation split. If the
    loss serves the task's goal in another way (for example a focal loss), override ``goal`` to
    return that goal: its checks and its primary metric are then used. Override ``validate`` for any
    other score.

    Example:
        >>> import torch.nn.functional as F
        >>> from edgewright.task import TensorSplit
        >>> class Squares(Objective):
        ...     def loss(self, outputs, batch):
        ...         return F.mse_loss(outputs[-1], batch.inputs[0])
        >>> split = TensorSplit(torch.ones(4, 2))
        >>> str(Squares().validate(torch.nn.Identity(), split))
        'loss 0'
    """

    @property
    def name(self) -> str:
        """Identifies the objective and its settings in a checkpoint."""
        return type(self).__name__

    @property
    def hooks(self) -> tuple[StepHook, ...]:
        """Constraints on the weights during training; none by default."""
        return ()

    @property
    def goal(self) -> Goal | None:
        """The goal whose primary metric compares epochs; None compares them by the loss."""
        return None

    @property
    def features(self) -> int:
        """The number of leading outputs that are features, not predictions, in training mode."""
        return 0

    def check(self, outputs: tuple[Any, ...], batch: Batch, exits: int) -> None:
        """Raise if the outputs do not fit the loss, before training starts.

        Args:
            outputs: What every exit returns in evaluation mode for the batch, the final one last.
            batch: Some training samples.
            exits: How many of the outputs are early exits.

        Raises:
            ModelError: There is a goal, and the outputs do not fit it.
        """
        del exits
        if self.goal is not None:
            for output in outputs:
                self.goal.check_outputs(output, batch.inputs)

    def check_loss(self, outputs: tuple[Any, ...], batch: Batch) -> None:
        """Raise if the loss itself cannot be used; by default it is not computed.

        Args:
            outputs: As in `check`, after they and the targets have been checked.
            batch: As in `check`.
        """
        del outputs, batch

    def validate(self, module: nn.Module, split: Split, *, exits: int | None = None,
                 device: torch.device | None = None) -> Score:
        """The score that epochs are compared by: the goal's primary metric, else the mean loss.

        Args:
            module: The module being trained; its mode is restored.
            split: The validation samples; their batches' rows index the validation data.
            exits: Number of the module's early exits; None determines it.
            device: The module's device; None determines it.
        """
        if self.goal is not None:
            return evaluate_module(module, split, self.goal, exits=exits, device=device)[-1]
        total = sum(float(self.loss(outputs, batch)) * batch.size for outputs, batch
                    in run_batches(module, split, exits=exits, device=device))
        return Score("loss", total / len(split), higher_is_better=False)

    def to(self, device: torch.device) -> None:
        """Move the objective's tensors and modules to a device; by default there are none."""
        del device

    @abstractmethod
    def loss(self, outputs: tuple[Any, ...], batch: Batch) -> Tensor:
        """The scalar loss to minimize.

        Args:
            outputs: What every exit of the module returns, the final one last: for a classifier
                logits (N, classes) each. A model without exits has one entry, whatever it returns.
            batch: The inputs after augmentation, and the targets.
        """


class WrappedObjective(Objective):
    """Base class of objectives that wrap another one and delegate to it by default.

    Args:
        objective: The wrapped objective.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    @property
    def wrapped(self) -> Objective:
        """The wrapped objective."""
        return self._objective

    @property
    def hooks(self) -> tuple[StepHook, ...]:
        """The wrapped objective's hooks."""
        return self._objective.hooks

    @property
    def goal(self) -> Goal | None:
        """The wrapped objective's goal."""
        return self._objective.goal

    @property
    def features(self) -> int:
        """The wrapped objective's number of features."""
        return self._objective.features

    def check(self, outputs: tuple[Any, ...], batch: Batch, exits: int) -> None:
        """Check the outputs as the wrapped objective does."""
        self._objective.check(outputs, batch, exits)

    def check_loss(self, outputs: tuple[Any, ...], batch: Batch) -> None:
        """Check the loss as the wrapped objective does."""
        self._objective.check_loss(outputs, batch)

    def validate(self, module: nn.Module, split: Split, *, exits: int | None = None,
                 device: torch.device | None = None) -> Score:
        """Validate as the wrapped objective does."""
        return self._objective.validate(module, split, exits=exits, device=device)

    def to(self, device: torch.device) -> None:
        """Move the wrapped objective to a device."""
        self._objective.to(device)


@final
class GoalLoss(Objective):
    """The loss of a task's goal, averaged over all exits.

    Args:
        goal: The goal.
        label_smoothing: Label smoothing of a goal with classes; 0 keeps the goal's own.

    Raises:
        UsageError: Label smoothing for a goal without classes.

    Example:
        >>> from edgewright.goals import Classification
        >>> batch = Batch((), torch.tensor([0, 1, 1]), torch.arange(3))
        >>> logits = torch.zeros(3, 2)
        >>> round(float(GoalLoss(Classification()).loss((logits, logits), batch)), 4)
        0.6931
    """

    def __init__(self, goal: Goal, label_smoothing: float = 0.0) -> None:
        self._goal = goal
        self._smoothed = goal.smooth_labels(label_smoothing)

    @property
    def name(self) -> str:
        """Identifies the objective and its settings in a checkpoint."""
        return f"GoalLoss({self._smoothed.identity})"

    @property
    def goal(self) -> Goal | None:
        """The goal."""
        return self._goal

    def check_loss(self, outputs: tuple[Any, ...], batch: Batch) -> None:
        """Raise if the loss fails, is not finite or has no gradient, or if a metric fails.

        Raises:
            DataError: There are no targets.
        """
        if batch.targets is None and self._goal.requires_targets:
            raise DataError(f"the loss of the goal {self._goal.name} needs targets, but the train "
                            "split has none; learn from a teacher alone "
                            "(Distillation(alpha=1)), or use a criterion and a method without "
                            "targets")
        for output in outputs:
            leaves = pytree.tree_map_only(Tensor, _track_gradient, output)
            with torch.enable_grad():
                check_loss(self._smoothed, leaves, batch.targets)
        check_metrics(self._goal, outputs[-1], batch.targets)

    def loss(self, outputs: tuple[Any, ...], batch: Batch) -> Tensor:
        """The goal's loss, averaged over the exits."""
        return torch.stack([self._smoothed.loss(output, batch.targets)
                            for output in outputs]).mean()


def _track_gradient(tensor: Tensor) -> Tensor:
    """A copy whose gradient can be computed, if it is floating point."""
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())
