"""What training minimizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.task import Batch, Split
from edgewright.training._evaluate import evaluate_module, run_batches
from edgewright.training._outputs import check_logits
from edgewright.training._score import Score
from edgewright.training._step_hook import StepHook


class Objective(ABC):
    """A loss on the model's outputs, which `train` minimizes.

    It also defines which outputs are valid and how epochs are compared. A subclass accepts any
    outputs by default, and epochs are compared by its mean loss on the validation split. If the
    outputs are logits and the targets their labels (for example for a focal loss), override
    ``classifies`` to return True; override ``validate`` for any other score.

    Example:
        >>> from edgewright.task import TensorSplit
        >>> class Squares(Objective):
        ...     def loss(self, outputs, batch):
        ...         return F.mse_loss(outputs[-1], batch.inputs[0])
        >>> split = TensorSplit(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))
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
    def classifies(self) -> bool:
        """Whether outputs are logits, one tensor per exit, and the task's targets their labels."""
        return False

    @property
    def features(self) -> int:
        """The number of leading outputs that are features, not logits, in training mode."""
        return 0

    def check(self, outputs: tuple[Tensor, ...], batch: Batch, exits: int) -> None:
        """Raise if the outputs do not fit the loss, before training starts.

        Args:
            outputs: The module's outputs in evaluation mode, for the batch.
            batch: Some training samples.
            exits: How many of the outputs are early exits.

        Raises:
            ModelError: The objective classifies and the outputs are not logits, one per exit.
        """
        if self.classifies:
            check_logits(outputs, len(batch.targets), exits)

    def validate(self, module: nn.Module, split: Split, *,
                 device: torch.device | None = None) -> Score:
        """The score that epochs are compared by: accuracy if it classifies, else the mean loss.

        Args:
            module: The module being trained; its mode is restored.
            split: The validation samples; their batches' rows index the validation data.
            device: The module's device; None determines it.
        """
        if self.classifies:
            return Score("accuracy", evaluate_module(module, split, device=device)[-1],
                         unit="fraction")
        total = sum(float(self.loss(outputs, batch)) * len(batch.targets)
                    for outputs, batch in run_batches(module, split, device=device))
        return Score("loss", total / len(split), higher_is_better=False)

    def to(self, device: torch.device) -> None:
        """Move the objective's tensors and modules to a device; by default there are none."""
        del device

    @abstractmethod
    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The scalar loss to minimize.

        Args:
            outputs: All outputs of the module; for a classifier, logits (N, classes), one tensor
                per exit, the final one last.
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
    def classifies(self) -> bool:
        """Whether the wrapped objective classifies."""
        return self._objective.classifies

    @property
    def features(self) -> int:
        """The wrapped objective's number of features."""
        return self._objective.features

    def check(self, outputs: tuple[Tensor, ...], batch: Batch, exits: int) -> None:
        """Check the outputs as the wrapped objective does."""
        self._objective.check(outputs, batch, exits)

    def validate(self, module: nn.Module, split: Split, *,
                 device: torch.device | None = None) -> Score:
        """Validate as the wrapped objective does."""
        return self._objective.validate(module, split, device=device)

    def to(self, device: torch.device) -> None:
        """Move the wrapped objective to a device."""
        self._objective.to(device)


@final
class LabelLoss(Objective):
    """Cross-entropy with the labels or class probabilities, averaged over all outputs.

    Args:
        label_smoothing: Share of the target distributed over all classes (Szegedy et al. 2016).

    Example:
        >>> batch = Batch((), torch.tensor([0, 1, 1]), torch.arange(3))
        >>> logits = torch.zeros(3, 2)
        >>> round(float(LabelLoss().loss((logits, logits), batch)), 4)
        0.6931
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._label_smoothing = label_smoothing

    @property
    def name(self) -> str:
        """Identifies the objective and its settings in a checkpoint."""
        return f"LabelLoss({self._label_smoothing})"

    @property
    def classifies(self) -> bool:
        """True."""
        return True

    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The mean cross-entropy, averaged over the outputs."""
        return label_loss(outputs, batch.targets, self._label_smoothing)


def label_loss(outputs: tuple[Tensor, ...], targets: Tensor,
               label_smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy with the labels, averaged over the outputs.

    Args:
        outputs: One tensor of logits (N, classes) per output.
        targets: Class indices (N,), or probabilities (N, classes).
        label_smoothing: Share of the target distributed over all classes.

    Example:
        >>> logits = torch.zeros(3, 2)
        >>> round(float(label_loss((logits, logits), torch.tensor([0, 1, 1]))), 4)
        0.6931
    """
    return torch.stack([F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
                        for logits in outputs]).mean()
