"""Boxes with labels and scores, after non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import Boxes
from edgewright.runtime.decoding._labels import label_of


@final
@dataclass(frozen=True)
class Box:
    """An object that was found.

    Attributes:
        label: Name of its class.
        score: Probability, 0 to 1.
        box: Left, top, right, bottom.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@final
@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes of one sample, the most probable first; iterating gives each `Box`.

    Attributes:
        boxes: Left, top, right, bottom, float64 (boxes, 4), in pixels of the picture that was
            given, or of the model's input if arrays were.
        scores: Probabilities, float64 (boxes,).
        classes: Class indices, int64 (boxes,).
        names: Of the classes, if known.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Box]:
        for box, score, index in zip(self.boxes.tolist(), self.scores.tolist(),
                                     self.classes.tolist(), strict=True):
            left, top, right, bottom = box
            yield Box(label_of(index, self.names), score, (left, top, right, bottom))

    def resize(self, size: tuple[int, int], to: tuple[int, int]) -> Detections:
        """The boxes in pixels of a picture of another size, cut off at its edges.

        Args:
            size: Width and height that the boxes are for.
            to: Width and height that they are wanted for.

        Example:
            >>> found = Detections(np.array([[2.0, 2.0, 4.0, 9.0]]), np.ones(1), np.zeros(1, int))
            >>> found.resize((8, 8), (16, 4)).boxes.tolist()
            [[4.0, 1.0, 8.0, 4.0]]
        """
        factors = np.tile(np.divide(to, size), 2)
        boxes = np.clip(self.boxes * factors, 0, np.tile(to, 2))
        return Detections(boxes, self.scores, self.classes, self.names)


def decode_boxes(boxes: NDArray[Any], logits: NDArray[Any], step: Boxes = Boxes(),  # noqa: B008
                 names: Sequence[str] | None = None) -> list[Detections]:
    """The boxes that are probable enough and do not overlap a more probable one of their class.

    Each class of a candidate is a box of its own. Of equal scores the earlier candidate, then the
    lower class comes first.

    Args:
        boxes: Left, top, right, bottom of each candidate, (N, candidates, 4).
        logits: Of independent classes, (N, candidates, classes).
        step: The thresholds.
        names: Of the classes.

    Example:
        >>> boxes = np.array([[[0, 0, 4, 4], [0, 0, 4, 5], [6, 6, 9, 9]]])
        >>> logits = np.array([[[2.0], [1.0], [0.0]]])
        >>> [found.box for found in decode_boxes(boxes, logits)[0]]
        [(0.0, 0.0, 4.0, 4.0), (6.0, 6.0, 9.0, 9.0)]
    """
    labels = None if names is None else tuple(names)
    with np.errstate(over="ignore"):  # exp is infinite where the probability is 0
        scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return [_decode_sample(sample.astype(np.float64), score, step, labels)
            for sample, score in zip(boxes, scores, strict=True)]


def _decode_sample(boxes: NDArray[np.float64], scores: NDArray[np.float64], step: Boxes,
                   names: tuple[str, ...] | None) -> Detections:
    candidates, classes = np.nonzero(scores >= step.score_threshold)
    found, probabilities = boxes[candidates], scores[candidates, classes]
    kept = suppress(found, probabilities, classes, step.iou_threshold, step.max_boxes)
    return Detections(found[kept], probabilities[kept], classes[kept], names)


def suppress(boxes: NDArray[np.float64], scores: NDArray[np.float64], classes: NDArray[np.int64],
             iou_threshold: float, max_boxes: int) -> NDArray[np.int64]:
    """Non-maximum suppression within each class: the indices of the boxes kept, the best first.

    The best box that is left is kept and removes the boxes of its class that it overlaps by more
    than the threshold, until ``max_boxes`` are kept. The time is proportional to the boxes times
    those kept.

    Args:
        boxes: Left, top, right, bottom, (boxes, 4).
        scores: (boxes,).
        classes: Class indices (boxes,).
        iou_threshold: Intersection over union that is still allowed.
        max_boxes: Most boxes to keep, of all classes together.

    Example:
        >>> boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 5], [0, 0, 4, 5]], dtype=float)
        >>> suppress(boxes, np.array([0.5, 0.9, 0.4]), np.array([0, 0, 1]), 0.5, 10).tolist()
        [1, 2]
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while left.size and len(kept) < max_boxes:
        best, left = left[0], left[1:]
        kept.append(int(best))
        allowed = overlaps(boxes[best], boxes[left]) <= iou_threshold
        left = left[allowed | (classes[left] != classes[best])]
    return np.array(kept, dtype=np.int64)


def overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of a box with others; 0 with a box without area.

    Args:
        box: Left, top, right, bottom, (4,).
        others: (boxes, 4).

    Example:
        >>> overlaps(np.array([0.0, 0, 2, 2]), np.array([[0.0, 0, 2, 4], [2, 2, 3, 3]])).tolist()
        [0.5, 0.0]
    """
    corner = np.maximum(box[:2], others[:, :2])
    opposite = np.minimum(box[2:], others[:, 2:])
    shared = np.clip(opposite - corner, 0, None).prod(axis=1)
    union = _area(box) + _area(others) - shared
    ratios: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared),
                                            where=shared > 0)
    return ratios


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=-1)
    return areas
