"""Learning from the soft outputs of a teacher."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.task import Batch
from edgewright.training import Objective, Settings, as_outputs


@final
class Distillation(Settings):
    """How much to learn from the teacher, and how softly.

    Attributes:
        temperature: Divides the logits of both before the softmax; higher shows more of what the
            teacher thinks of the wrong classes.
        alpha: Share of the teacher in the loss; the labels have the rest.

    Raises:
        UsageError: A temperature not above 0, an alpha outside 0..1.

    Example:
        >>> Distillation().temperature, Distillation().alpha
        (4.0, 0.9)
    """

    temperature: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    alpha: float = Field(default=0.9, ge=0, le=1)


@final
class HintonDistillation(Objective):
    """Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network", section 2.

    With logits z of the student and v of the teacher, and p(x) = softmax(x / T)::

        loss = alpha * T^2 * KL(p(v) || p(z)) + (1 - alpha) * CE(z, label)

    T^2 undoes the 1 / T^2 that the temperature puts on the gradient, so that alpha means the same
    at every T. The paper writes the cross-entropy with p(v); the divergence differs from it by
    the teacher's entropy, a constant, and is 0 for a perfect student. Averaged over the batch,
    then over the student's outputs: every exit learns from the teacher's last output.

    Args:
        teacher: Takes the same inputs; kept in evaluation mode, without gradients.
        distillation: Temperature and alpha.
        label_smoothing: In the cross-entropy with the labels.

    Example:
        >>> teacher = torch.nn.Identity()
        >>> objective = HintonDistillation(teacher, Distillation(alpha=1.0))
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> batch = Batch((logits,), torch.tensor([0, 1]), torch.arange(2))
        >>> float(objective.loss((logits,), batch))
        0.0
    """

    def __init__(self, teacher: nn.Module, distillation: Distillation | None = None, *,
                 label_smoothing: float = 0.0) -> None:
        self._teacher = teacher.eval()
        self._settings = Distillation() if distillation is None else distillation
        self._label_smoothing = label_smoothing

    @property
    def name(self) -> str:
        """Identifies the objective and its settings in a checkpoint."""
        return (f"HintonDistillation({type(self._teacher).__name__}, "
                f"{self._settings.temperature}, {self._settings.alpha}, {self._label_smoothing})")

    def to(self, device: torch.device) -> None:
        """Move the teacher, in place."""
        self._teacher.to(device)

    def loss(self, outputs: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """The loss above.

        Raises:
            ModelError: Teacher and student have different numbers of classes.
        """
        with torch.no_grad():
            taught = as_outputs(self._teacher(*batch.inputs))[-1].detach()
        if taught.shape != outputs[-1].shape:
            raise ModelError(f"the teacher's output has shape {tuple(taught.shape)}, the student's "
                             f"{tuple(outputs[-1].shape)}; they must have the same classes")
        return torch.stack([self._one(logits, taught, batch.targets) for logits in outputs]).mean()

    def _one(self, logits: Tensor, taught: Tensor, targets: Tensor) -> Tensor:
        temperature, alpha = self._settings.temperature, self._settings.alpha
        divergence = F.kl_div(F.log_softmax(logits / temperature, dim=1),
                              F.log_softmax(taught / temperature, dim=1),
                              reduction="batchmean", log_target=True)
        hard = F.cross_entropy(logits, targets, label_smoothing=self._label_smoothing)
        return alpha * temperature**2 * divergence + (1 - alpha) * hard
