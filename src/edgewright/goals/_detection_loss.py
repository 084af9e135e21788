"""The loss of anchor-free detectors: task-aligned assignment, and what assigned boxes cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY: Final = 1e-9


@final
@dataclass(frozen=True)
class TaskAlignment:
    """How candidates are assigned to boxes (TOOD, Feng et al. 2021, section 3.2).

    Attributes:
        candidates: Most candidates that are assigned to a box.
        score_power: Exponent of the score in the alignment, alpha.
        overlap_power: Exponent of the overlap, beta.
    """

    candidates: int
    score_power: float
    overlap_power: float


class Assignment(NamedTuple):
    """What every candidate should predict.

    Attributes:
        boxes: Box of each candidate, arbitrary where none is assigned, (N, candidates, 4).
        scores: Target of each score, 0 where no box is assigned, (N, candidates, classes).
    """

    boxes: Tensor
    scores: Tensor

    @property
    def weights(self) -> Tensor:
        """The score of each candidate's class, 0 where no box is assigned, (N, candidates)."""
        return self.scores.sum(dim=2)


@torch.no_grad()
def assign_boxes(boxes: Tensor, scores: Tensor, centers: Tensor, targets: dict[str, Tensor],
                 settings: TaskAlignment) -> Assignment:
    """Assign target boxes to the candidates that already predict them best (TOOD, eq. 4).

    The alignment of a candidate with a box is ``t = s^alpha * u^beta``: its score for the box's
    class and its overlap (IoU) with the box. Of the candidates whose center is within the box, the
    best aligned ones are assigned to it; a candidate of several boxes takes the one it overlaps
    most. The target of the score is the alignment, scaled so that a box's greatest equals the
    greatest overlap among its candidates (section 3.2.1).

    Args:
        boxes: Predicted boxes (N, candidates, 4).
        scores: Logits (N, candidates, classes).
        centers: x and y of each candidate's center, pixels, (candidates, 2).
        targets: "boxes" (N, M, 4) and "labels" (N, M), -1 for padding.
        settings: Exponents, and number of candidates.
    """
    labels = targets["labels"].clamp_min(0)
    candidates, classes = scores.shape[1:]
    if labels.shape[1] == 0:
        return Assignment(torch.zeros_like(boxes), torch.zeros_like(scores))
    overlaps = box_iou(targets["boxes"][:, :, None], boxes[:, None])  # (N, M, candidates)
    of_class = scores.sigmoid().transpose(1, 2).gather(
        1, labels[:, :, None].expand(-1, -1, candidates))
    alignment = of_class ** settings.score_power * overlaps ** settings.overlap_power
    eligible = _are_inside(centers, targets["boxes"]) & (targets["labels"] >= 0)[:, :, None]
    top = alignment.masked_fill(~eligible, -1).topk(
        min(settings.candidates, candidates), dim=2).indices
    taken = torch.zeros_like(eligible).scatter(2, top, value=True) & eligible
    owner = overlaps.masked_fill(~taken, -1).argmax(dim=1)  # (N, candidates)
    taken &= F.one_hot(owner, labels.shape[1]).transpose(1, 2).bool()
    own_boxes = targets["boxes"].gather(1, owner[:, :, None].expand(-1, -1, 4))
    goals = _scale_alignment(alignment * taken, overlaps * taken).amax(dim=1)  # (N, candidates)
    own_labels = F.one_hot(labels.gather(1, owner), classes)
    return Assignment(own_boxes, goals[:, :, None] * own_labels)


def _are_inside(centers: Tensor, boxes: Tensor) -> Tensor:
    """Whether each center is within each box, (N, M, candidates)."""
    corners = boxes[:, :, None]
    return ((centers > corners[..., :2]) & (centers < corners[..., 2:])).all(dim=3)


def _scale_alignment(alignment: Tensor, overlaps: Tensor) -> Tensor:
    """Alignment of each box, scaled so that its greatest is its greatest overlap."""
    greatest = alignment.amax(dim=2, keepdim=True)
    return alignment * overlaps.amax(dim=2, keepdim=True) / greatest.clamp_min(_TINY)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), broadcast, 0 to 1.

    Example:
        >>> float(box_iou(torch.tensor([0.0, 0, 2, 1]), torch.tensor([1.0, 0, 2, 1])))
        0.5
    """
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(
        first[..., :2], second[..., :2])
    shared = sides.clamp_min(0).prod(dim=-1)
    return shared / (_areas(first) + _areas(second) - shared).clamp_min(_TINY)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(dim=-1)


def complete_iou(first: Tensor, second: Tensor) -> Tensor:
    """Complete IoU (Zheng et al. 2020, eq. 7 to 11): overlap, distance of centers, aspect ratio.

    Args:
        first: Predicted boxes (..., 4).
        second: Target boxes of the same shape.

    Returns:
        (...), at most 1. The weight of the aspect ratio has no gradient, as in the paper.

    Example:
        >>> box = torch.tensor([0.0, 0.0, 2.0, 1.0])
        >>> round(float(complete_iou(box, box)), 4)
        1.0
    """
    overlap = box_iou(first, second)
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(
        first[..., :2], second[..., :2])
    offset = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    distance = offset.square().sum(dim=-1) / hull.square().sum(dim=-1).clamp_min(_TINY)
    angles = [torch.atan2(*reversed((box[..., 2:] - box[..., :2]).clamp_min(_TINY).unbind(-1)))
              for box in (first, second)]
    aspect = 4 / math.pi**2 * (angles[0] - angles[1]).square()
    with torch.no_grad():
        weight = aspect / (1 - overlap + aspect).clamp_min(_TINY)
    return overlap - distance - weight * aspect


def distribution_focal_loss(distances: Tensor, goals: Tensor) -> Tensor:
    """Cross-entropy of the two bins beside a distance (Li et al. 2020, eq. 6).

    Args:
        distances: Logits over the distances 0, 1, ..., bins - 1, (..., bins).
        goals: The distances, in the same unit, (...); those beyond the last bin count as its.

    Returns:
        (...).

    Example:
        >>> logits = torch.tensor([-99.0, 0.0, 0.0, -99.0])
        >>> round(float(distribution_focal_loss(logits, torch.tensor(1.5))), 4)
        0.6931
    """
    last = distances.shape[-1] - 1
    goals = goals.clamp(0, last)
    left = goals.floor().clamp_max(last - 1)
    share = (goals - left)[..., None]
    log_shares = F.log_softmax(distances, dim=-1)
    lower = left.long()[..., None]
    both = (1 - share) * log_shares.gather(-1, lower) + share * log_shares.gather(-1, lower + 1)
    return -both.squeeze(-1)


def box_distances(boxes: Tensor, centers: Tensor) -> Tensor:
    """Distances from centers (..., 2) to the left, top, right and bottom edge of boxes (..., 4)."""
    return torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], dim=-1)


def find_centers(height: int, width: int, strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Centers (candidates, 2) and strides (candidates,) of the cells of feature maps, row by row.

    Args:
        height: Height of the image, pixels.
        width: Its width.
        strides: Pixels per cell, in the order in which the model concatenates its feature maps.

    Example:
        >>> centers, strides = find_centers(16, 32, (16,))
        >>> centers.tolist(), strides.tolist()
        ([[8.0, 8.0], [24.0, 8.0]], [16.0, 16.0])
    """
    centers, sizes = [], []
    for stride in strides:
        rows, columns = ((torch.arange(math.ceil(length / stride)) + 0.5) * stride
                         for length in (height, width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centers.append(torch.stack([x, y], dim=2).flatten(0, 1))
        sizes.append(torch.full((len(centers[-1]),), float(stride)))
    return torch.cat(centers), torch.cat(sizes)
