"""Boxes with labels and scores, after non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from edgewright.core import Boxes, select_boxes
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
        boxes: Left, top, right, bottom, float32 (boxes, 4), in pixels of the picture that was
            given, or of the model's input if arrays were.
        scores: Probabilities, float32 (boxes,).
        classes: Class indices, int64 (boxes,).
        names: Of the classes, if known.
    """

    boxes: NDArray[np.floating[Any]]
    scores: NDArray[np.floating[Any]]
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
        boxes = np.clip(self.boxes * factors, 0, np.tile(to, 2)).astype(np.float32)
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
    found = (select_boxes(sample, score, step.score_threshold, step.iou_threshold, step.max_boxes)
             for sample, score in zip(boxes, logits, strict=True))
    return [Detections(one.boxes, one.scores, one.labels, labels) for one in found]
