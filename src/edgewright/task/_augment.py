"""Random augmentation of images, vectorized over a batch."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgewright.task._rand_augment import rand_augment
from edgewright.task._view import View

_RANDOM_NUMBERS: Final = 3  # per image, for crop and flip


def crop_padding(height: int) -> int:
    """Black padding in pixels for a random crop: 4, less for images below 32 pixels.

    Example:
        >>> crop_padding(32), crop_padding(8)
        (4, 1)
    """
    return 4 if height >= 32 else max(1, height // 8)


def augment_batch(images: NDArray[np.uint8], rows: NDArray[np.int64], view: View, *,
                  flip: bool) -> NDArray[np.uint8]:
    """Shift every image by a random offset of its own and mirror about half of the images.

    The shift is a random crop of the image padded with black (He et al. 2016, section 4.2). The
    policy ``rand_augment`` distorts the image first (Cubuk et al. 2020, appendix A).

    Args:
        images: (N, C, H, W).
        rows: Indices of the samples, (N,).
        view: Which random variation of the samples.
        flip: Mirror left to right with probability 0.5.

    Returns:
        New images, (N, C, H, W).

    Raises:
        MissingExtraError: ``rand_augment`` without torchvision installed.
        UsageError: ``rand_augment`` with an unsuitable torchvision or unsuitable images.
    """
    if view.policy == "rand_augment":
        images = rand_augment(images, rows, view, first_draw=_RANDOM_NUMBERS)
    count, channels, height, width = images.shape
    pad = crop_padding(height)
    vertical, horizontal, side = view.random_uniform(rows, _RANDOM_NUMBERS).T
    top, left = (np.floor(drawn * (2 * pad + 1)).astype(np.int64)
                 for drawn in (vertical, horizontal))
    padded = np.zeros((count, channels, height + 2 * pad, width + 2 * pad), dtype=np.uint8)
    padded[:, :, pad:pad + height, pad:pad + width] = images
    windows = sliding_window_view(padded, (height, width), axis=(2, 3))
    shifted: NDArray[np.uint8] = windows[np.arange(count), :, top, left]
    if flip:
        mirrored = side < 0.5
        shifted[mirrored] = shifted[mirrored, ..., ::-1]
    return shifted
