"""Normalising images, against three loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import Preprocessing

SHARES = st.floats(0.05, 1)


@given(channels=st.sampled_from([1, 3]), scale=st.sampled_from([1 / 255, 1.0, 1 / 65535]),
       mean=st.tuples(SHARES, SHARES, SHARES), std=st.tuples(SHARES, SHARES, SHARES),
       seed=st.integers(0, 99))
def test_every_pixel_is_scaled_shifted_and_divided(channels: Any, scale: Any, mean: Any, std: Any,
                                                   seed: Any) -> None:
    recipe = Preprocessing(channels=channels, height=2, width=3, scale=scale,
                           mean=mean[:channels], std=std[:channels])
    images = np.random.default_rng(seed).integers(0, 256, (2, channels, 2, 3), dtype=np.uint8)
    have = recipe.normalize(images)
    assert (have.dtype, have.shape) == (np.dtype(np.float32), images.shape)
    for place, pixel in np.ndenumerate(images):
        want = (int(pixel) * scale - mean[place[1]]) / std[place[1]]
        assert have[place] == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_the_images_are_left_as_they_are() -> None:
    images = np.full((1, 1, 2, 2), 200, dtype=np.uint8)
    recipe = Preprocessing(channels=1, height=2, width=2, mean=(0.5,), std=(0.25,))
    recipe.normalize(images)
    assert (images == 200).all()
