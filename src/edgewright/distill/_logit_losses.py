"""Losses between the outputs of student and teacher, one function per paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.distill._config import Distillation

LogitLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor, Distillation], Tensor]
_EPSILON: Final = 1e-14  # added to the variance


def hinton(student: Tensor, teacher: Tensor, targets: Tensor, settings: Distillation) -> Tensor:
    """Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network", section 2.

    With logits z of the student and v of the teacher, and p(x) = softmax(x / T)::

        T^2 * KL(p(v) || p(z))

    The factor T^2 compensates for the factor 1 / T^2 of the gradient, so that the loss has the same
    weight at every T. The paper uses the cross-entropy with p(v); the divergence differs from it by
    the teacher's entropy, a constant, and is 0 for a perfect student.

    Args:
        student: (N, classes), or (N, ..., classes), where every position counts as a sample.
        teacher: The same shape.
        targets: Ignored.
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

    Hinton's loss is the same with a non-target weight of 1 - p(target) per sample (equation 6). The
    paper adds the full cross-entropy with the labels and ramps this loss up over 20 epochs; here
    ``alpha`` mixes the two, and warm-up is left to the schedule.

    Args:
        student: (N, classes), or (N, ..., classes).
        teacher: The same shape.
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
    teacher_parts = _split_target(_flatten_positions(teacher) / temperature, classes)
    student_parts = _split_target(_flatten_positions(student) / temperature, classes)
    target, others = (F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
                      for mine, theirs in zip(student_parts, teacher_parts, strict=True))
    return temperature**2 * (settings.target_weight * target + settings.nontarget_weight * others)


def standardized(student: Tensor, teacher: Tensor, targets: Tensor,
                 settings: Distillation) -> Tensor:
    """Sun et al. 2024, "Logit standardization in knowledge distillation", algorithm 2.

    Hinton's loss on z-scores: each sample's logits are standardized over the classes (without
    Bessel's correction) before they are divided by the temperature. The student then need not match
    the scale of the teacher's logits, only their relations. The paper uses T = 2 and weights of 9
    for this loss and 0.1 for the labels; here ``alpha`` mixes them.

    Args:
        student: (N, classes), or (N, ..., classes).
        teacher: The same shape.
        targets: Ignored.
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
    """Ba & Caruana 2014, "Do deep nets really need to be deep?", equation 1: regression.

    Half the squared difference, ``1/2 ||z - v||^2``, for regressions and for logits. The paper
    sums over the outputs; this function averages, so that the learning rate does not depend on
    their number.

    Args:
        student: (N, ...), any shape.
        teacher: The same shape.
        targets: Ignored.
        settings: Ignored.

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
    """Girshick 2015, "Fast R-CNN", equation 3: regression that is robust to outliers.

    ``1/2 d^2`` for a difference d below 1, ``|d| - 1/2`` beyond: a few outliers in the teacher's
    outputs do not dominate the gradient.

    Args:
        student: (N, ...), any shape.
        teacher: The same shape.
        targets: Ignored.
        settings: Ignored.

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
    """The target class index of every sample and position.

    Args:
        logits: (N, ..., classes).
        targets: Indices (N, ...), or probabilities (N, ..., classes), of which the largest is used.

    Example:
        >>> target_classes(torch.zeros(1, 3), torch.tensor([[0.2, 0.7, 0.1]])).tolist()
        [1]
    """
    return targets.argmax(dim=-1) if targets.ndim == logits.ndim else targets


def _softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    divergence = F.kl_div(F.log_softmax(_flatten_positions(student) / temperature, dim=1),
                          F.log_softmax(_flatten_positions(teacher) / temperature, dim=1),
                          reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def _flatten_positions(logits: Tensor) -> Tensor:
    """Reshape to one row per sample and position."""
    return logits.reshape(-1, logits.shape[-1])


def _split_target(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (target, all others), (N, 2), and among the others, (N, classes - 1).

    The others are gathered, not masked, to avoid infinities in the divergence.
    """
    positions = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, positions + (positions >= classes).long())
    pair = torch.cat([logits.gather(1, classes), others.logsumexp(dim=1, keepdim=True)], dim=1)
    return F.log_softmax(pair, dim=1), F.log_softmax(others, dim=1)


def _z_scores(logits: Tensor) -> Tensor:
    centered = logits - logits.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)
    return centered / (variance + _EPSILON).sqrt()
