from __future__ import annotations

import numpy as np
import pytest
import torch

from edgewright.errors import UsageError
from edgewright.task._image_split import TensorImages
from edgewright.task._normalization import IMAGENET, measure_normalization, parse_normalization


def test_statistics_are_those_of_the_chosen_rows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 5, 4), dtype=np.uint8)
    rows = np.array([0, 2, 3, 7])
    found = measure_normalization(TensorImages(torch.from_numpy(pixels), "train"), rows, 1 / 255)
    chosen = pixels[rows].astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, chosen.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, chosen.std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_constant_channel_is_not_divided_by_zero() -> None:
    images = TensorImages(torch.full((3, 1, 2, 2), 255, dtype=torch.uint8), "train")
    found = measure_normalization(images, np.arange(3), 1 / 255)
    assert found.std == (1.0,)
    assert found.mean == pytest.approx((1.0,))


def test_valid_normalization_strings_are_parsed() -> None:
    assert parse_normalization("imagenet", 3) == IMAGENET
    assert parse_normalization("0.1,0.2,0.3,1,2,3", 3) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert parse_normalization("0.1, 2", 1) == ((0.1,), (2.0,))


@pytest.mark.parametrize(("text", "channels", "message"), [
    ("imagenet", 1, "is for 3 channels; these images have 1"),
    ("cifar", 3, "cannot read normalize='cifar'; expected 'imagenet', or 6 numbers"),
    ("0.5,0.5", 3, "holds 2 numbers; expected 'imagenet', or 6 numbers for 3"),
    ("0.5,0", 1, "every standard deviation above 0"),
    ("nan,1", 1, "every number must be finite"),
])
def test_invalid_normalization_strings_raise(text: str, channels: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_normalization(text, channels)
