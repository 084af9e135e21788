"""Random crops and flips, over a whole batch at once."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgewright.task._view import View


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

    The shift is a random crop of the image with a black border (He et al. 2016, section 4.2).

    Args:
        images: (N, C, H, W).
        rows: Which samples they are, (N,).
        view: Which variation of these.
        flip: Mirror left to right, with probability one half.

    Returns:
        New images, (N, C, H, W).
    """
    count, _, height, width = images.shape
    pad = crop_padding(height)
    vertical, horizontal, side = view.draws(rows, 3).T
    top, left = (np.floor(drawn * (2 * pad + 1)).astype(np.int64)
                 for drawn in (vertical, horizontal))
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, (height, width), axis=(2, 3))
    shifted: NDArray[np.uint8] = windows[np.arange(count), :, top, left]
    if flip:
        mirrored = side < 0.5
        shifted[mirrored] = shifted[mirrored, ..., ::-1]
    return shifted
