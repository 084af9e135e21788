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
    """A loss on everything the model puts out; `train` minimizes it.

    It also says what the outputs have to be, and by what the epochs are compared. One of your own
    takes whatever outputs there are, and is judged by its own mean loss on the validation split;
    where the outputs are logits and the targets their labels (a focal loss, say), let
    ``classifies`` be True; override ``validate`` for any other measure.

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
        """What constrains the weights while the loss is minimised; by default nothing."""
        return ()

    @property
    def classifies(self) -> bool:
        """Whether outputs are logits, one tensor per exit, and the task's targets their labels."""
        return False

    @property
    def features(self) -> int:
        """How many of the first outputs, in training mode alone, are features and no logits."""
        return 0

    def check(self, outputs: tuple[Tensor, ...], batch: Batch, exits: int) -> None:
        """Refuse outputs that the loss is not made for, before anything is trained.

        Args:
            outputs: Of the module in evaluation mode, for the batch.
            batch: Some training samples.
            exits: How many of the outputs are early exits.

        Raises:
            ModelError: The objective classifies, and they are no logits, or not one per exit.
        """
        if self.classifies:
            check_logits(outputs, len(batch.targets), exits)

    def validate(self, module: nn.Module, split: Split, *,
                 device: torch.device | None = None) -> Score:
        """By what the epochs are compared: accuracy where it classifies, else its own mean loss.

        Args:
            module: What is trained; it ends in the mode it was in.
            split: The validation samples. Rows of their batches are those of the validation data.
            device: Where the module is; None looks.
        """
        if self.classifies:
            return Score("accuracy", evaluate_module(module, split, device=device)[-1],
                         unit="fraction")
        total = sum(float(self.loss(outputs, batch)) * len(batch.targets)
                    for outputs, batch in run_batches(module, split, device=device))
        return Score("loss", total / len(split), higher_is_better=False)

    def to(self, device: torch.device) -> None:
        """Move whatever the objective holds to where the training is; by default nothing."""
        del device

    @abstractmethod
    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The scalar to minimise.

        Args:
            outputs: All that the module returned; of a classifier, logits (N, classes), one tensor
                per exit, the final one last.
            batch: What the model was given, after augmentation, and the targets.
        """


class WrappedObjective(Objective):
    """An objective around another one, whose hooks, samples and device are its own.

    Args:
        objective: The other one.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    @property
    def wrapped(self) -> Objective:
        """The other one."""
        return self._objective

    @property
    def hooks(self) -> tuple[StepHook, ...]:
        """The objective's own."""
        return self._objective.hooks

    @property
    def classifies(self) -> bool:
        """The objective's own."""
        return self._objective.classifies

    @property
    def features(self) -> int:
        """The objective's own."""
        return self._objective.features

    def check(self, outputs: tuple[Tensor, ...], batch: Batch, exits: int) -> None:
        """The objective's own."""
        self._objective.check(outputs, batch, exits)

    def validate(self, module: nn.Module, split: Split, *,
                 device: torch.device | None = None) -> Score:
        """The objective's own."""
        return self._objective.validate(module, split, device=device)

    def to(self, device: torch.device) -> None:
        """Move whatever the objective holds."""
        self._objective.to(device)


@final
class LabelLoss(Objective):
    """Cross-entropy with the labels or their probabilities, averaged over all outputs.

    Args:
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).

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
        """Always."""
        return True

    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """Mean over the outputs of the mean cross-entropy."""
        return label_loss(outputs, batch.targets, self._label_smoothing)


def label_loss(outputs: tuple[Tensor, ...], targets: Tensor,
               label_smoothing: float = 0.0) -> Tensor:
    """Mean over the outputs of the mean cross-entropy with the labels.

    Args:
        outputs: Logits (N, classes), each.
        targets: Class indices (N,), or probabilities (N, classes).
        label_smoothing: Share of the target spread over all classes.

    Example:
        >>> logits = torch.zeros(3, 2)
        >>> round(float(label_loss((logits, logits), torch.tensor([0, 1, 1]))), 4)
        0.6931
    """
    return torch.stack([F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
                        for logits in outputs]).mean()
