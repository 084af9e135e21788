"""Mean and standard deviation: parsed from text, or measured on the training images."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import UsageError
from edgewright.task._image_split import Images

_CHUNK: Final = 4096


class Normalization(NamedTuple):
    """Mean and standard deviation per channel, of the scaled pixels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET: Final = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def parse_normalization(text: str, channels: int) -> Normalization:
    """Parse ``imagenet`` or ``MEAN,STD``: all means, then all deviations, one per channel.

    Raises:
        UsageError: Neither form, the wrong count of numbers, or a deviation that is not above 0.

    Example:
        >>> parse_normalization("0.5,0.25", channels=1)
        Normalization(mean=(0.5,), std=(0.25,))
    """
    if text == "imagenet":
        if channels != len(IMAGENET.mean):
            raise UsageError(f"normalize='imagenet' is for 3 channels; these images have {channels}"
                             "; give MEAN,STD instead")
        return IMAGENET
    expected = (f"expected 'imagenet', or {2 * channels} numbers for {channels} channel(s): "
                "the means, then the standard deviations")
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"cannot read normalize={text!r}; {expected}") from error
    if len(numbers) != 2 * channels:
        raise UsageError(f"normalize={text!r} holds {len(numbers)} numbers; {expected}")
    mean, std = tuple(numbers[:channels]), tuple(numbers[channels:])
    if not all(map(math.isfinite, numbers)) or min(std) <= 0:
        raise UsageError(f"normalize={text!r}: every number must be finite and every standard "
                         "deviation above 0")
    return Normalization(mean, std)


def measure_normalization(images: Images, rows: NDArray[np.int64],
                          scale: float) -> Normalization:
    """The exact mean and standard deviation per channel, from a histogram of pixel values.

    A constant channel gets the standard deviation 1.

    Args:
        images: The images.
        rows: Indices of the images to include.
        scale: Factor that pixel values are multiplied by.
    """
    channels = images.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(rows), _CHUNK):
        pixels = images.rows(rows[start:start + _CHUNK])
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel].ravel(), minlength=256)
    values = np.arange(256) * scale
    weights = counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(axis=1)
    std = np.sqrt(np.where(variance > 0, variance, 1.0))
    return Normalization(tuple(mean.tolist()), tuple(std.tolist()))
