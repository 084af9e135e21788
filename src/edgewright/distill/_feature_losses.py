"""Losses between intermediate features of student and teacher, one function per paper.

Features are (N, C), tokens (N, T, C) or maps (N, C, H, W). If the two differ in spatial size or
number of tokens, the larger one is average-pooled to the size of the smaller.
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
        weight: The paper's weight relative to a cross-entropy. FitNets trains on hints alone and
            has none; 10 gives gradients of about the same size as the other losses.
        projected: Whether it compares channel by channel, so that widths have to be equal.
    """

    loss: FeatureLoss
    weight: float
    projected: bool = False


def hints(student: Tensor, teacher: Tensor) -> Tensor:
    """Romero et al. 2015, "FitNets: hints for thin deep nets", equation 3.

    ``1/2 ||r(student) - teacher||^2``, where the projection r to the teacher's width has already
    been applied (see `FeatureStudent`). The paper sums over a feature's elements, this function
    averages; the paper first trains on hints alone, here all losses are combined.

    Args:
        student: (N, C), (N, T, C) or (N, C, H, W), as wide as the teacher's.
        teacher: The same, with any number of tokens or spatial positions.

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

    The attention map Q is the sum of squares over the channels, as a vector over the positions::

        || Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2 ||_2^2 / positions

    As in the authors' code, the norm is squared and divided by the number of positions; the paper's
    weight of 10^3 refers to that. Tokens are positions. Without positions the loss is always 0.

    Args:
        student: (N, C), (N, T, C) or (N, C, H, W).
        teacher: The same, with any width and any number of positions.

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

    Samples are points; maps and tokens are averaged over their positions. A Huber loss (delta 1)
    compares the distances between pairs of points, divided by their mean in the batch, and the
    cosines of the angles of triplets; angles have twice the weight of distances, 50 to 25 in the
    paper. Means are over pairs and triplets of distinct samples; the authors' code also counts
    those of a sample with itself, whose loss is 0.

    Args:
        student: (N, C), (N, T, C) or (N, C, H, W).
        teacher: The same, with any width and any number of positions.

    Returns:
        A scalar; 0 for a single sample.

    Example:
        >>> points = torch.randn(5, 3)
        >>> round(float(relational(7 * points + 1, points)), 5)
        0.0
    """
    student, teacher = _pool_to_points(student), _pool_to_points(teacher)
    distance = _mean_over_distinct(
        F.smooth_l1_loss(_distances(student), _distances(teacher), reduction="none"))
    angle = _mean_over_distinct(
        F.smooth_l1_loss(_cosines(student), _cosines(teacher), reduction="none"))
    return distance + _ANGLE_TO_DISTANCE * angle


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Tung & Mori 2019, "Similarity-preserving knowledge distillation", equation 4.

    The rows of Q are the samples' flattened features, and G = Q Q^T with every row divided by its
    norm::

        || G_T - G_S ||_F^2 / N^2

    Args:
        student: (N, ...).
        teacher: (N, ...), any shape.

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
    """Pool both features to the smaller number of tokens, or the smaller height and width.

    Raises:
        ModelError: The features differ in rank.

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
    sizes = tuple(map(min, _spatial_size(student), _spatial_size(teacher)))
    return _pool(student, sizes), _pool(teacher, sizes)


def _spatial_size(feature: Tensor) -> tuple[int, ...]:
    return tuple(feature.shape[2:] if feature.ndim == 4 else feature.shape[1:-1])


def _pool(feature: Tensor, sizes: tuple[int, ...]) -> Tensor:
    if _spatial_size(feature) == sizes:
        return feature
    if feature.ndim == 4:
        return F.adaptive_avg_pool2d(feature, (sizes[0], sizes[1]))
    return F.adaptive_avg_pool1d(feature.transpose(1, 2), sizes[0]).transpose(1, 2)


def _attention_map(feature: Tensor) -> Tensor:
    """(N, positions), every row with norm 1."""
    squares = feature.square().mean(dim=1 if feature.ndim == 4 else -1)
    return F.normalize(squares.flatten(1) if feature.ndim > 2 else squares[:, None], dim=1)


def _pool_to_points(feature: Tensor) -> Tensor:
    """(N, C): maps and tokens averaged over their positions."""
    if feature.ndim == 4:
        return feature.mean(dim=(2, 3))
    return feature.mean(dim=1) if feature.ndim == 3 else feature


def _distances(points: Tensor) -> Tensor:
    """(N, N), divided by the mean over distinct points."""
    distances: Tensor = torch.linalg.vector_norm(points[:, None] - points[None], dim=2)
    mean = _mean_over_distinct(distances)
    return distances / mean.clamp_min(torch.finfo(mean.dtype).tiny)


def _cosines(points: Tensor) -> Tensor:
    """(N, N, N): at [i, j, k] the cosine of the angle at point j between points i and k."""
    directions = F.normalize(points[:, None] - points[None], dim=2)
    return torch.einsum("ijd,kjd->ijk", directions, directions)


def _mean_over_distinct(values: Tensor) -> Tensor:
    """The mean over the elements whose indices all differ; 0 if there are none."""
    count = len(values)
    same = torch.eye(count, dtype=torch.bool, device=values.device)
    if values.ndim == 3:
        same = same[:, :, None] | same[:, None, :] | same[None, :, :]
    distinct = count * (count - 1) * (count - 2 if values.ndim == 3 else 1)
    return values.masked_fill(same, 0.0).sum() / max(distinct, 1)


def _similarities(feature: Tensor) -> Tensor:
    rows = feature.flatten(1)
    return F.normalize(rows @ rows.T, dim=1)
