"""Losses between tensors inside a student and inside a teacher: one function per paper.

Features are (N, C), tokens (N, T, C) or maps (N, C, H, W). Where maps or tokens of the two differ
in number, those of the larger are averaged to the smaller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from edgewright.errors import ModelError

FeatureLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
_ANGLE_TO_DISTANCE: Final = 2.0  # 50 and 25 in the paper


class FeatureMethod(NamedTuple):
    """One way to compare features.

    Attributes:
        loss: The function.
        weight: What its paper multiplies it with, beside a cross-entropy; FitNets trains on hints
            alone and has none, 10 gives gradients of the others' size.
        projected: Whether it compares channel by channel, so that widths have to agree.
    """

    loss: FeatureLoss
    weight: float
    projected: bool = False


def hints(student: Tensor, teacher: Tensor) -> Tensor:
    """Romero et al. 2015, "FitNets: hints for thin deep nets", equation 3.

    ``1/2 ||r(student) - teacher||^2``, where r, which brings the student to the teacher's width,
    has been applied already (see `FeatureStudent`). The paper sums over a feature's elements,
    here it is their mean; it trains on hints before anything else, here all losses act together.

    Args:
        student: (N, C), (N, T, C) or (N, C, H, W), as wide as the teacher's.
        teacher: The same, of any number of tokens or places.

    Returns:
        The mean over samples and elements, a scalar.

    Raises:
        ModelError: The two differ in channels or in rank.

    Example:
        >>> float(hints(torch.ones(2, 3), torch.zeros(2, 3)))
        0.5
    """
    student, teacher = pool_to_same_size(student, teacher)
    if student.shape != teacher.shape:
        raise ModelError(f"hints compare features channel by channel, but the student's are "
                         f"{tuple(student.shape)} and the teacher's {tuple(teacher.shape)}; "
                         "project the student's")
    return 0.5 * F.mse_loss(student, teacher)


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Zagoruyko & Komodakis 2017, "Paying more attention to attention", equation 2.

    The attention map Q is the sum of squares over the channels, as a vector over the places::

        || Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2 ||_2^2 / places

    As in the authors' code the norm is squared and divided by the number of places, to which the
    paper's 10^3 belongs. Tokens are places. Of a feature without places it is always 0.

    Args:
        student: (N, C), (N, T, C) or (N, C, H, W).
        teacher: The same, of any width and any number of places.

    Returns:
        The mean over samples, a scalar.

    Example:
        >>> maps = torch.rand(2, 3, 4, 4) + 1
        >>> round(float(attention(maps, 5 * maps)), 6)
        0.0
    """
    student, teacher = pool_to_same_size(student, teacher)
    return F.mse_loss(_attention_map(student), _attention_map(teacher))


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Park et al. 2019, "Relational knowledge distillation", sections 3.2.1 and 3.2.2.

    Samples are points, maps and tokens averaged over their places. Huber's loss (delta 1) compares
    the distances between two points, divided by their mean in the batch, and the cosines of the
    angles between three; the angles weigh twice as much as the distances, 50 to 25 in the paper.
    Means are over pairs and triplets of distinct samples; the authors' code counts those of a
    sample with itself too, whose loss is 0.

    Args:
        student: (N, C), (N, T, C) or (N, C, H, W).
        teacher: The same, of any width and any number of places.

    Returns:
        A scalar; 0 of a single sample, which has no relations.

    Example:
        >>> points = torch.randn(5, 3)
        >>> round(float(relational(7 * points + 1, points)), 5)
        0.0
    """
    student, teacher = _points(student), _points(teacher)
    distance = _mean_of_distinct(
        F.smooth_l1_loss(_distances(student), _distances(teacher), reduction="none"))
    angle = _mean_of_distinct(
        F.smooth_l1_loss(_cosines(student), _cosines(teacher), reduction="none"))
    return distance + _ANGLE_TO_DISTANCE * angle


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Tung & Mori 2019, "Similarity-preserving knowledge distillation", equation 4.

    With the rows of Q the samples' features, flattened, and G = Q Q^T, every row divided by its
    norm::

        || G_T - G_S ||_F^2 / N^2

    Args:
        student: (N, ...).
        teacher: (N, ...), of any shape.

    Returns:
        A scalar.

    Example:
        >>> features = torch.randn(5, 3, 2, 2)
        >>> round(float(similarity(7 * features, features)), 5)
        0.0
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


FEATURE_LOSSES: Final[dict[str, FeatureMethod]] = {
    "hints": FeatureMethod(hints, 10.0, projected=True),
    "attention": FeatureMethod(attention, 1000.0),
    "relational": FeatureMethod(relational, 25.0),
    "similarity": FeatureMethod(similarity, 3000.0),
}


def pool_to_same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both features with the smaller number of tokens, or the smaller height and width, of the two.

    Raises:
        ModelError: One has places in another number of dimensions than the other.

    Example:
        >>> small, large = pool_to_same_size(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 8, 8))
        >>> small.shape, large.shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 5, 4, 4]))
    """
    if student.ndim != teacher.ndim or not 2 <= student.ndim <= 4:
        raise ModelError(f"features of shape {tuple(student.shape)} (student) and "
                         f"{tuple(teacher.shape)} (teacher) cannot be compared; expected both "
                         "(N, C), both (N, tokens, C) or both (N, C, H, W)")
    if student.ndim == 2:
        return student, teacher
    sizes = tuple(map(min, _places(student), _places(teacher)))
    return _pool(student, sizes), _pool(teacher, sizes)


def _places(feature: Tensor) -> tuple[int, ...]:
    return tuple(feature.shape[2:] if feature.ndim == 4 else feature.shape[1:-1])


def _pool(feature: Tensor, sizes: tuple[int, ...]) -> Tensor:
    if _places(feature) == sizes:
        return feature
    if feature.ndim == 4:
        return F.adaptive_avg_pool2d(feature, (sizes[0], sizes[1]))
    return F.adaptive_avg_pool1d(feature.transpose(1, 2), sizes[0]).transpose(1, 2)


def _attention_map(feature: Tensor) -> Tensor:
    """(N, places), every row of norm 1."""
    squares = feature.square().mean(dim=1 if feature.ndim == 4 else -1)
    return F.normalize(squares.flatten(1) if feature.ndim > 2 else squares[:, None], dim=1)


def _points(feature: Tensor) -> Tensor:
    """(N, C): maps and tokens averaged over their places."""
    if feature.ndim == 4:
        return feature.mean(dim=(2, 3))
    return feature.mean(dim=1) if feature.ndim == 3 else feature


def _distances(points: Tensor) -> Tensor:
    """(N, N), divided by the mean over distinct points."""
    distances: Tensor = torch.linalg.vector_norm(points[:, None] - points[None], dim=2)
    mean = _mean_of_distinct(distances)
    return distances / mean.clamp_min(torch.finfo(mean.dtype).tiny)


def _cosines(points: Tensor) -> Tensor:
    """(N, N, N): of the angle at point j between points i and k, for [i, j, k]."""
    directions = F.normalize(points[:, None] - points[None], dim=2)
    return torch.einsum("ijd,kjd->ijk", directions, directions)


def _mean_of_distinct(values: Tensor) -> Tensor:
    """The mean over the elements whose indices all differ; 0 where there are none."""
    count = len(values)
    same = torch.eye(count, dtype=torch.bool, device=values.device)
    if values.ndim == 3:
        same = same[:, :, None] | same[:, None, :] | same[None, :, :]
    distinct = count * (count - 1) * (count - 2 if values.ndim == 3 else 1)
    return values.masked_fill(same, 0.0).sum() / max(distinct, 1)


def _similarities(feature: Tensor) -> Tensor:
    rows = feature.flatten(1)
    return F.normalize(rows @ rows.T, dim=1)
