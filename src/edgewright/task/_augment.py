"""Random variations of images, over a whole batch at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgewright.task._rand_augment import rand_augment
from edgewright.task._view import View

_DRAWS: Final = 3  # random numbers that crop and flip take


def crop_padding(height: int) -> int:
    """Pixels of black border a random crop may reach into: 4, fewer for images below 32 pixels.

    Example:
        >>> crop_padding(32), crop_padding(8)
        (4, 1)
    """
    return 4 if height >= 32 else max(1, height // 8)


def augment_batch(images: NDArray[np.uint8], rows: NDArray[np.int64], view: View, *,
                  flip: bool) -> NDArray[np.uint8]:
    """Shift every image by its own random offset, and mirror about half of them.

    The shift is a random crop of the image with a black border (He et al. 2016, section 4.2). The
    policy ``rand_augment`` distorts the image before (Cubuk et al. 2020, appendix A).

    Args:
        images: (N, C, H, W).
        rows: Which samples they are, (N,).
        view: Which variation of these.
        flip: Mirror left to right, with probability one half.

    Returns:
        New images, (N, C, H, W).

    Raises:
        MissingExtraError: ``rand_augment``, and torchvision is not installed.
        UsageError: ``rand_augment``, and torchvision or the images do not serve.
    """
    if view.policy == "rand_augment":
        images = rand_augment(images, rows, view, first_draw=_DRAWS)
    count, channels, height, width = images.shape
    pad = crop_padding(height)
    vertical, horizontal, side = view.draws(rows, _DRAWS).T
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
