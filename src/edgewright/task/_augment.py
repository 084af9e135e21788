"""Random crops and flips, over a whole batch at once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray


def crop_padding(height: int) -> int:
    """Pixels of black border a random crop may reach into: 4, fewer for images below 32 pixels.

    Example:
        >>> crop_padding(32), crop_padding(8)
        (4, 1)
    """
    return 4 if height >= 32 else max(1, height // 8)


def augment_batch(images: NDArray[np.uint8], generator: torch.Generator, *,
                  flip: bool) -> NDArray[np.uint8]:
    """Shift every image by its own random offset, and mirror a random half of them.

    The shift is a random crop of the image with a black border (He et al. 2016, section 4.2).

    Args:
        images: (N, C, H, W).
        generator: Draws the vertical offsets, the horizontal ones, then the flips.
        flip: Mirror left to right, with probability one half.

    Returns:
        New images, (N, C, H, W).
    """
    count, _, height, width = images.shape
    pad = crop_padding(height)
    top, left = torch.randint(2 * pad + 1, (2, count), generator=generator).numpy()
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, (height, width), axis=(2, 3))
    shifted: NDArray[np.uint8] = windows[np.arange(count), :, top, left]
    if flip:
        mirrored = (torch.rand(count, generator=generator) < 0.5).numpy()
        shifted[mirrored] = shifted[mirrored, ..., ::-1]
    return shifted
