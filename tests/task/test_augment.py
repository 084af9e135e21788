from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.task import View
from edgewright.task._augment import augment_batch, crop_padding


def one_by_one(images: Any, rows: Any, view: Any, flip: Any) -> Any:
    """The slow, obvious reference."""
    channels, height, width = images.shape[1:]
    pad = crop_padding(height)
    results = []
    for image, (vertical, horizontal, side) in zip(images, view.random_uniform(rows, 3), strict=True):
        canvas = np.zeros((channels, height + 2 * pad, width + 2 * pad), dtype=np.uint8)
        canvas[:, pad:pad + height, pad:pad + width] = image
        top, left = int(vertical * (2 * pad + 1)), int(horizontal * (2 * pad + 1))
        crop = canvas[:, top:top + height, left:left + width]
        results.append(crop[:, :, ::-1] if flip and side < 0.5 else crop)
    return np.stack(results)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 5), channels=st.sampled_from([1, 3]), height=st.integers(1, 40),
       width=st.integers(1, 40), seed=st.integers(0, 1000), flip=st.booleans())
def test_a_batch_equals_the_loop_over_samples(count: Any, channels: Any, height: Any, width: Any,
                                              seed: Any, flip: Any) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    rows = random.integers(0, 10**6, count)
    before = images.copy()
    found = augment_batch(images, rows, View(seed), flip=flip)
    np.testing.assert_array_equal(found, one_by_one(images, rows, View(seed), flip))
    np.testing.assert_array_equal(images, before)


def test_every_offset_and_both_flips_occur() -> None:
    image = np.zeros((1, 1, 8, 8), dtype=np.uint8)
    image[0, 0, 3, 2] = 1
    many = augment_batch(np.repeat(image, 500, axis=0), np.arange(500), View(0), flip=True)
    places = {(int(y), int(x)) for _, _, y, x in np.argwhere(many)}
    assert places == {(y, x) for y in (2, 3, 4) for x in (1, 2, 3, 4, 5, 6)}


@pytest.mark.parametrize(("height", "pad"), [(224, 4), (32, 4), (28, 3), (8, 1), (3, 1)])
def test_padding_is_smaller_for_small_images(height: int, pad: int) -> None:
    assert crop_padding(height) == pad
