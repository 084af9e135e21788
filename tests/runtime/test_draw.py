"""Boxes and masks over a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgewright.errors import UsageError
from edgewright.runtime import ClassRanking, Detections, Mask, draw
from edgewright.runtime._draw import colour_of

BLACK = np.zeros((40, 60, 3), dtype=np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> Detections:
    return Detections(np.array(rows, dtype=np.float64).reshape(-1, 4), np.full(len(rows), 0.5),
                      np.arange(len(rows)), ("cat", "dog")[:len(rows)])


def test_boxes_are_drawn_where_they_are() -> None:
    drawn = np.asarray(draw(BLACK, boxes((10, 5, 30, 25), (40, 30, 50, 35))))
    assert drawn.shape == BLACK.shape
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (rows.min(), columns.min(), rows.max(), columns.max()) == (5, 10, 35, 50)
    assert tuple(drawn[25, 30]) == colour_of(0)
    assert tuple(drawn[35, 50]) == colour_of(1)
    assert not drawn[15, 31:40].any()


def test_boxes_beyond_the_edges_and_inside_out_are_drawn() -> None:
    drawn = np.asarray(draw(BLACK, boxes((-10, -10, 100, 20), (50, 35, 40, 30))))
    assert drawn[20, 30].any()
    assert drawn[35, 45].any()


def test_nothing_found_leaves_the_picture() -> None:
    np.testing.assert_array_equal(draw(BLACK + 7, boxes()), BLACK + 7)


def test_a_mask_covers_all_but_the_background(tmp_path: Path) -> None:
    Image.fromarray(BLACK).save(tmp_path / "a.png")
    indices = np.array([[0, 1], [2, 0]])
    drawn = np.asarray(draw(tmp_path / "a.png", Mask(indices, 3)))
    assert drawn.shape == BLACK.shape
    assert not drawn[:20, :30].any()
    for place, index in (((5, 45), 1), ((35, 5), 2)):
        np.testing.assert_allclose(drawn[place], np.array(colour_of(index)) * 127 / 255, atol=1)


def test_boxes_lie_on_the_mask() -> None:
    result = {"boxes": boxes((10, 5, 30, 25)), "mask": Mask(np.ones((2, 2), np.int64), 2)}
    drawn = np.asarray(draw(Image.fromarray(BLACK), result))
    assert tuple(drawn[25, 30]) == colour_of(0)
    assert drawn[39, 59].any()


def test_a_picture_lying_on_its_side_is_drawn_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(BLACK).save(tmp_path / "a.png", exif=exif)
    assert draw(tmp_path / "a.png", boxes()).size == (40, 60)


def test_colours_of_classes_differ() -> None:
    assert len({colour_of(index) for index in range(50)}) == 50


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to draw: the model predicts neither boxes nor a"):
        draw(BLACK, ClassRanking(np.ones(1)))
    with pytest.raises(UsageError, match=r"a mask of shape \(4,\) cannot be drawn"):
        draw(BLACK, Mask(np.zeros(4, np.int64), 2))
