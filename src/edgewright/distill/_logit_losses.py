"""Losses between a student's outputs and a teacher's: plain functions, one per paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.distill._config import Distillation

LogitLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor, Distillation], Tensor]
_TINY: Final = 1e-14  # a variance below this is taken for none


def hinton(student: Tensor, teacher: Tensor, targets: Tensor, settings: Distillation) -> Tensor:
    """Hinton, Vinyals & Dean 2015, "DistillationLoss the knowledge in a neural network", section 2.

    With logits z of the student and v of the teacher, and p(x) = softmax(x / T)::

        T^2 * KL(p(v) || p(z))

    T^2 undoes the 1 / T^2 that the temperature puts on the gradient, so that its share of the loss
    means the same at every T. The paper writes the cross-entropy with p(v); the divergence differs
    from it by the teacher's entropy, a constant, and is 0 for a perfect student.

    Args:
        student: (N, classes), or (N, ..., classes): then every position counts as a sample.
        teacher: Of the same shape.
        targets: Not read.
        settings: The temperature.

    Returns:
        The mean over samples and positions, a scalar.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> float(hinton(logits, logits + 1, torch.tensor([0]), Distillation()))
        0.0
    """
    del targets
    return _softened_divergence(student, teacher, settings.temperature)


def decoupled(student: Tensor, teacher: Tensor, targets: Tensor,
              settings: Distillation) -> Tensor:
    """Zhao et al. 2022, "Decoupled knowledge distillation", equation 7.

    With p and q the softened probabilities of teacher and student, b the pair (of the target, of
    all others), and p', q' the distributions over the others alone::

        T^2 * (target_weight * KL(b(p) || b(q)) + nontarget_weight * KL(p' || q'))

    Hinton's loss is the same with a non-target weight of 1 - p(target), sample by sample
    (equation 6). The paper adds the cross-entropy with the labels whole, and ramps this loss up
    over 20 epochs; here ``alpha`` mixes the two, and a warm-up is the schedule's.

    Args:
        student: (N, classes), or (N, ..., classes).
        teacher: Of the same shape.
        targets: Class indices (N, ...), or probabilities (N, ..., classes), of which the largest
            is the target.
        settings: The temperature and the two weights.

    Returns:
        The mean over samples and positions, a scalar.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
        >>> float(decoupled(logits, logits + 1, torch.tensor([0]), Distillation()))
        0.0
    """
    temperature = settings.temperature
    classes = target_classes(student, targets).reshape(-1, 1)
    teacher_parts = _split_off(_rows(teacher) / temperature, classes)
    student_parts = _split_off(_rows(student) / temperature, classes)
    target, others = (F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
                      for mine, theirs in zip(student_parts, teacher_parts, strict=True))
    return temperature**2 * (settings.target_weight * target + settings.nontarget_weight * others)


def standardized(student: Tensor, teacher: Tensor, targets: Tensor,
                 settings: Distillation) -> Tensor:
    """Sun et al. 2024, "Logit standardization in knowledge distillation", algorithm 2.

    Hinton's loss on z-scores: of every sample's logits the mean is taken off and the standard
    deviation divided out (over the classes, without Bessel's correction) before the temperature
    is. So the student need not copy the teacher's scale, only its order and proportions. The
    paper uses T = 2 and weighs the loss with 9 and the labels with 0.1; here ``alpha`` mixes them.

    Args:
        student: (N, classes), or (N, ..., classes).
        teacher: Of the same shape.
        targets: Not read.
        settings: The temperature.

    Returns:
        The mean over samples and positions, a scalar.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
        >>> scaled = standardized(3 * logits - 5, logits, torch.tensor([0]), Distillation())
        >>> round(float(scaled), 6)
        0.0
    """
    del targets
    return _softened_divergence(_z_scores(student), _z_scores(teacher), settings.temperature)


def mse(student: Tensor, teacher: Tensor, targets: Tensor, settings: Distillation) -> Tensor:
    """Ba & Caruana 2014, "Do deep nets really need to be deep?", equation 1: fitting the outputs.

    Half the squared difference, ``1/2 ||z - v||^2``, for regressions and for logits. The paper
    sums over the outputs; here it is their mean, so that the learning rate need not know how many
    there are.

    Args:
        student: (N, ...) of any shape.
        teacher: Of the same shape.
        targets: Not read.
        settings: Not read.

    Returns:
        The mean over samples and outputs, a scalar.

    Example:
        >>> float(mse(torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(2), Distillation()))
        0.5
    """
    del targets, settings
    return 0.5 * F.mse_loss(student, teacher)


def smooth_l1(student: Tensor, teacher: Tensor, targets: Tensor,
              settings: Distillation) -> Tensor:
    """Girshick 2015, "Fast R-CNN", equation 3: fitting the outputs, far ones by their distance.

    ``1/2 d^2`` where the difference d is below 1, ``|d| - 1/2`` beyond: a teacher's few wild
    outputs do not rule the gradient.

    Args:
        student: (N, ...) of any shape.
        teacher: Of the same shape.
        targets: Not read.
        settings: Not read.

    Returns:
        The mean over samples and outputs, a scalar.

    Example:
        >>> far = torch.full((2, 3), 4.0)
        >>> float(smooth_l1(far, torch.zeros(2, 3), torch.zeros(2), Distillation()))
        3.5
    """
    del targets, settings
    return F.smooth_l1_loss(student, teacher)


LOGIT_LOSSES: Final[dict[str, LogitLoss]] = {
    "hinton": hinton,
    "decoupled": decoupled,
    "standardized": standardized,
    "mse": mse,
    "smooth_l1": smooth_l1,
}


def target_classes(logits: Tensor, targets: Tensor) -> Tensor:
    """The target classes as indices, one a sample and position.

    Args:
        logits: (N, ..., classes).
        targets: Indices (N, ...), or probabilities (N, ..., classes), of which the largest counts.

    Example:
        >>> target_classes(torch.zeros(1, 3), torch.tensor([[0.2, 0.7, 0.1]])).tolist()
        [1]
    """
    return targets.argmax(dim=-1) if targets.ndim == logits.ndim else targets


def _softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    divergence = F.kl_div(F.log_softmax(_rows(student) / temperature, dim=1),
                          F.log_softmax(_rows(teacher) / temperature, dim=1),
                          reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def _rows(logits: Tensor) -> Tensor:
    """Every position of every sample as a row."""
    return logits.reshape(-1, logits.shape[-1])


def _split_off(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (target, all others), (N, 2), and among the others, (N, classes - 1).

    The others are gathered, not masked, so that no infinity meets another in the divergence.
    """
    places = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, places + (places >= classes).long())
    pair = torch.cat([logits.gather(1, classes), others.logsumexp(dim=1, keepdim=True)], dim=1)
    return F.log_softmax(pair, dim=1), F.log_softmax(others, dim=1)


def _z_scores(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / (variance + _TINY).sqrt()
