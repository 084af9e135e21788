"""The boxes of one sample: those above a score threshold, without duplicates."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class SelectedBoxes(NamedTuple):
    """The boxes of one sample, the most probable first.

    Attributes:
        boxes: Left, top, right, bottom, (K, 4) float32.
        labels: Class indices, (K,) int64.
        scores: Probabilities, (K,) float32.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


def select_boxes(boxes: Floats, scores: Floats, score_threshold: float = 0.25,
                 iou_threshold: float = 0.5, max_boxes: int = 100) -> SelectedBoxes:
    """Select a sample's boxes by score and by non-maximum suppression within each class.

    Every candidate competes in every class whose probability reaches the threshold, because the
    classes are independent. Of two boxes of one class whose intersection over union is above the
    threshold, the less probable one is dropped.

    Args:
        boxes: Left, top, right, bottom of each candidate, (candidates, 4).
        scores: Logits of independent classes, (candidates, classes).
        score_threshold: Least probability of a box.
        iou_threshold: Largest overlap of two boxes of one class.
        max_boxes: Most boxes that are returned.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], np.float32)
        >>> found = select_boxes(boxes, np.array([[2.0], [3.0], [0.0]]))
        >>> found.boxes.tolist(), found.scores.round(2).tolist()
        ([[1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]], [0.949999988079071, 0.5])
    """
    probabilities = _sigmoid(np.asarray(scores, np.float32))
    corners = np.asarray(boxes, np.float32)
    rows, labels = np.nonzero(probabilities >= score_threshold)
    order = np.argsort(-probabilities[rows, labels], kind="stable")
    rows, labels = rows[order], labels[order]
    kept = [order[:0], *(_suppress(corners, rows, np.flatnonzero(labels == label), iou_threshold,
                                   max_boxes) for label in np.unique(labels))]
    found = np.sort(np.concatenate(kept))[:max_boxes]  # positions in the order of the scores
    return SelectedBoxes(corners[rows[found]], labels[found].astype(np.int64),
                         probabilities[rows[found], labels[found]])


def box_overlaps(first: Floats, second: Floats) -> NDArray[np.float32]:
    """Intersection over union of every box of one set with every box of the other.

    Args:
        first: Left, top, right, bottom, (A, 4).
        second: (B, 4).

    Returns:
        (A, B), 0 to 1; 0 for boxes without an area.

    Example:
        >>> box_overlaps(np.array([[0.0, 0.0, 2.0, 1.0]]), np.array([[1.0, 0.0, 2.0, 1.0]])).item()
        0.5
    """
    one, other = first[:, None].astype(np.float32), second[None].astype(np.float32)
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    areas = [np.clip(part[..., 2:] - part[..., :2], 0, None).prod(axis=-1) for part in (one, other)]
    union = areas[0] + areas[1] - shared
    overlaps: NDArray[np.float32] = np.divide(shared, union, out=np.zeros_like(shared),
                                              where=union > 0)
    return overlaps


def _suppress(boxes: NDArray[np.float32], rows: NDArray[np.int64], places: NDArray[np.int64],
              iou_threshold: float, max_boxes: int) -> NDArray[np.int64]:
    """The places of one class that stay, at most ``max_boxes``; the first is the most probable."""
    kept: list[int] = []
    while len(places) and len(kept) < max_boxes:
        first, places = places[:1], places[1:]
        kept.append(int(first[0]))
        overlap = box_overlaps(boxes[rows[first]], boxes[rows[places]])[0]
        places = places[overlap <= iou_threshold]
    return np.array(kept, np.int64)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities, without overflow."""
    small = np.exp(-np.abs(logits))
    probabilities: NDArray[np.float32] = np.where(logits >= 0, 1, small) / (1 + small)
    return probabilities
