from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import box_overlaps, select_boxes


def slow_iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (one, other)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def slow_select(boxes: np.ndarray, scores: np.ndarray, score: float, iou: float,
                most: int) -> list[tuple[int, int]]:
    """Candidate and class of each selected box."""
    pairs = sorted(((1 / (1 + np.exp(-scores[row, label])), row, label)
                    for row in range(len(boxes)) for label in range(scores.shape[1])),
                   key=lambda pair: -pair[0])
    kept: list[tuple[int, int]] = []
    for probability, row, label in pairs:
        rivals = [other for other, own in kept if own == label]
        if probability >= score and all(
                slow_iou(boxes[row].tolist(), boxes[other].tolist()) <= iou for other in rivals):
            kept.append((row, label))
    return kept[:most]


@given(seed=st.integers(0, 2**31), candidates=st.integers(0, 12), classes=st.integers(1, 3),
       iou=st.sampled_from([0.0, 0.3, 0.5, 1.0]), most=st.sampled_from([1, 3, 100]))
def test_the_same_boxes_as_one_by_one(seed: int, candidates: int, classes: int, iou: float,
                                      most: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 20, (candidates, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 15, (candidates, 2))],
                           axis=1).astype(np.float32)
    scores = random.normal(0, 2, (candidates, classes)).astype(np.float32)
    found = select_boxes(boxes, scores, 0.3, iou, most)
    expected = slow_select(boxes, scores, 0.3, iou, most)
    assert found.labels.tolist() == [label for _, label in expected]
    assert found.boxes.tolist() == [boxes[row].tolist() for row, _ in expected]
    assert found.scores == pytest.approx([1 / (1 + np.exp(-scores[pair])) for pair in expected])


@given(seed=st.integers(0, 2**31))
def test_overlaps_by_hand(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.uniform(-5, 5, (4, 4)), random.uniform(-5, 5, (3, 4))
    expected = [[slow_iou(one.tolist(), other.tolist()) for other in second] for one in first]
    assert box_overlaps(first, second) == pytest.approx(np.array(expected), abs=1e-5)


def test_nothing_reaches_the_threshold() -> None:
    found = select_boxes(np.zeros((2, 4), np.float32), np.full((2, 3), -9.0))
    assert [part.shape for part in found] == [(0, 4), (0,), (0,)]
    assert [part.dtype for part in found] == [np.float32, np.int64, np.float32]


def test_extreme_logits_do_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        found = select_boxes(np.array([[0, 0, 1, 1]]), np.array([[1e4, -1e4]]))
    assert found.scores.tolist() == [1.0]


def test_overlapping_boxes_of_two_classes_both_stay() -> None:
    box = np.array([[0.0, 0.0, 4.0, 4.0]])
    assert select_boxes(box, np.array([[3.0, 2.0]])).labels.tolist() == [0, 1]
