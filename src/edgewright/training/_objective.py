"""What training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.errors import ModelError
from edgewright.task import Batch
from edgewright.training._step_hook import StepHook


class Objective(ABC):
    """A loss on everything the model puts out; `train` minimises it."""

    @property
    def name(self) -> str:
        """Identifies the objective and its settings in a checkpoint."""
        return type(self).__name__

    @property
    def hooks(self) -> tuple[StepHook, ...]:
        """What constrains the weights while the loss is minimised; by default nothing."""
        return ()

    @property
    def views(self) -> int | None:
        """How many views of the samples the epochs take in turn; None, and each has its own."""
        return None

    @property
    def recalls(self) -> bool:
        """Whether it looks samples up by their rows, and so knows nothing of their mixtures."""
        return False

    def to(self, device: torch.device) -> None:
        """Move whatever the objective holds to where the training is; by default nothing."""
        del device

    @abstractmethod
    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The scalar to minimise.

        Args:
            outputs: Logits (N, classes), one tensor an exit, the final one last.
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
    def hooks(self) -> tuple[StepHook, ...]:
        """The objective's own."""
        return self._objective.hooks

    @property
    def views(self) -> int | None:
        """The objective's own."""
        return self._objective.views

    @property
    def recalls(self) -> bool:
        """The objective's own."""
        return self._objective.recalls

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


def as_outputs(result: Any) -> tuple[Tensor, ...]:
    """What a module returned as a tuple of tensors, one an exit.

    Raises:
        ModelError: It is neither a tensor, nor a tuple or list of them.

    Example:
        >>> len(as_outputs(torch.zeros(2, 3))), len(as_outputs([torch.zeros(2), torch.zeros(2)]))
        (1, 2)
    """
    if isinstance(result, Tensor):
        return (result,)
    if isinstance(result, tuple | list) and result and all(isinstance(r, Tensor) for r in result):
        return tuple(result)
    raise ModelError(f"the model returned a {type(result).__name__}; expected a tensor of logits, "
                     "or a tuple of them (one an exit, the final one last)")
