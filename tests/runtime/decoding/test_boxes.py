"""Boxes as results; `tests/core/test_select_boxes.py` has the reference of their selection."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgewright.core import Boxes
from edgewright.runtime import Detections
from edgewright.runtime.decoding import decode_boxes


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
    logits = np.full((300, 3), -np.inf)
    logits[np.arange(300), classes] = scores
    (found,) = decode_boxes(boxes[None], logits[None], Boxes(score_threshold=0, max_boxes=300))
    np.testing.assert_allclose(found.boxes[found.scores > 0], boxes[expected], rtol=1e-6)


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


def test_another_size_of_the_picture_scales_boxes() -> None:
    boxes = np.array([[1.0, 2, 5, 6], [0, 0, 8, 8]])
    resized = Detections(boxes, np.ones(2), np.zeros(2, np.int64)).resize((8, 8), (24, 4)).boxes
    np.testing.assert_allclose(resized, boxes * [3, 0.5, 3, 0.5])


def test_boxes_are_cut_off_at_the_edges_of_the_picture() -> None:
    found = Detections(np.array([[-4.0, -4, 20, 6]]), np.ones(1), np.zeros(1, np.int64), ("cat",))
    (one,) = found.resize((8, 8), (16, 16))
    assert one.box == (0, 0, 16, 12)
    assert one.label == "cat"
