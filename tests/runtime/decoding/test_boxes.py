"""Non-maximum suppression against a slow reference, and against torchvision's where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core import Boxes
from edgewright.runtime import Detections
from edgewright.runtime.decoding import decode_boxes, suppress

Rows = list[tuple[tuple[int, int, int, int], float, int]]

ROWS = st.lists(st.tuples(st.tuples(*[st.integers(0, 8)] * 4), st.sampled_from([0.1, 0.5, 0.9]),
                          st.integers(0, 1)), max_size=12)


def slow_iou(first: Any, second: Any) -> float:
    """By counting the unit squares in both."""
    squares = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}
               for box in (first, second)]
    union = len(squares[0] | squares[1])
    return len(squares[0] & squares[1]) / union if union else 0.0


def slow_suppression(rows: Rows, threshold: float, limit: int) -> list[int]:
    """Each class on its own, box by box; then the best of all classes."""
    kept: list[int] = []
    for found in {index for _, _, index in rows}:
        mine: list[int] = []
        for number in sorted(range(len(rows)), key=lambda one: (-rows[one][1], one)):
            if rows[number][2] == found and all(
                    slow_iou(rows[number][0], rows[other][0]) <= threshold for other in mine):
                mine.append(number)
        kept += mine
    return sorted(kept, key=lambda one: (-rows[one][1], one))[:limit]


def as_arrays(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (np.array([box for box, _, _ in rows], dtype=np.float64).reshape(-1, 4),
            np.array([score for _, score, _ in rows], dtype=np.float64),
            np.array([index for _, _, index in rows], dtype=np.int64))


@settings(deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(1, 13))
def test_suppression_is_that_of_a_reference(rows: Rows, threshold: float, limit: int) -> None:
    boxes, scores, classes = as_arrays(rows)
    expected = slow_suppression(rows, threshold, limit)
    assert suppress(boxes, scores, classes, threshold, limit).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_that_of_torchvision(seed: int) -> None:
    try:
        from torchvision import ops  # noqa: PLC0415 - it may be broken
    except (ImportError, RuntimeError) as error:  # one built for another torch raises the latter
        pytest.skip(f"needs torchvision: {error}")
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 50, (300, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (300, 2))], axis=1)
    scores, classes = rng.permutation(300) / 300, rng.integers(0, 3, 300)
    expected = ops.batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores),
                               torch.from_numpy(classes), 0.5).tolist()
    assert suppress(boxes, scores, classes, 0.5, 300).tolist() == expected


def test_equal_scores_keep_the_earlier_box_of_each_class() -> None:
    boxes = np.tile([0.0, 0, 4, 4], (4, 1))
    kept = suppress(boxes, np.full(4, 0.5), np.array([1, 0, 0, 1]), 0.5, 10)
    assert kept.tolist() == [0, 1]


def test_a_box_without_area_neither_removes_nor_is_removed() -> None:
    boxes = np.array([[2.0, 2, 2, 2], [2, 2, 2, 2], [0, 0, 4, 4], [4, 4, 0, 0]])
    kept = suppress(boxes, np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4, np.int64), 0.0, 10)
    assert kept.tolist() == [0, 1, 2, 3]


def test_each_class_of_a_candidate_is_a_box_of_its_own() -> None:
    boxes = np.array([[[0, 0, 4, 4], [1, 1, 2, 2]]], dtype=np.float32)
    logits = np.array([[[3.0, 1.0], [-9.0, 0.0]]], dtype=np.float32)
    (found,) = decode_boxes(boxes, logits, Boxes(score_threshold=0.5), ("cat", "dog"))
    assert [(one.label, one.box) for one in found] == [
        ("cat", (0, 0, 4, 4)), ("dog", (0, 0, 4, 4)), ("dog", (1, 1, 2, 2))]
    assert [one.score for one in found] == pytest.approx([0.95257413, 0.73105858, 0.5])
    assert len(found) == 3


@pytest.mark.parametrize("shape", [(2, 0), (2, 5)])
def test_no_candidates_and_none_that_is_probable(shape: tuple[int, int]) -> None:
    found = decode_boxes(np.zeros((*shape, 4)), np.full((*shape, 3), -np.inf), Boxes())
    assert [len(one) for one in found] == [0, 0]
    assert [list(one) for one in found] == [[], []]
    assert [one.boxes.shape for one in found] == [(0, 4)] * 2


def test_no_samples() -> None:
    assert decode_boxes(np.zeros((0, 5, 4)), np.zeros((0, 5, 3))) == []


def test_at_most_so_many_boxes_and_the_best() -> None:
    boxes = np.arange(10)[:, None] * 10.0 + np.array([0, 0, 5, 5])
    (found,) = decode_boxes(boxes[None], np.linspace(1, 3, 10)[None, :, None], Boxes(max_boxes=3))
    assert found.boxes[:, 0].tolist() == [90, 80, 70]


@given(ROWS)
def test_another_size_of_the_picture_keeps_overlaps(rows: Rows) -> None:
    boxes, scores, classes = as_arrays(rows)
    resized = Detections(boxes, scores, classes).resize((8, 8), (24, 4)).boxes
    np.testing.assert_allclose(resized, boxes * [3, 0.5, 3, 0.5])
    assert suppress(resized, scores, classes, 0.45, 99).tolist() == suppress(
        boxes, scores, classes, 0.45, 99).tolist()


def test_boxes_are_cut_off_at_the_edges_of_the_picture() -> None:
    found = Detections(np.array([[-4.0, -4, 20, 6]]), np.ones(1), np.zeros(1, np.int64), ("cat",))
    (one,) = found.resize((8, 8), (16, 16))
    assert one.box == (0, 0, 16, 12)
    assert one.label == "cat"
