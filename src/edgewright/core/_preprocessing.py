"""How a raw image becomes a model's input; part of both the task and the bundle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from edgewright.core._settings import Settings
from edgewright.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

Resample = Literal["bilinear", "bicubic", "nearest"]


class Preprocessing(Settings):
    """Image preprocessing: resize to ``height`` x ``width``, scale, subtract mean, divide by std.

    Attributes:
        channels: 1 (grayscale) or 3 (RGB).
        height: Pixels.
        width: Pixels.
        scale: Factor applied to the integer pixel values, 1/255 for bytes.
        mean: Per channel, after scaling.
        std: Per channel, after scaling.
        resample: Filter used to resize an image of another size.

    Example:
        >>> import numpy as np
        >>> recipe = Preprocessing(channels=1, height=1, width=2, mean=(0.5,), std=(0.5,))
        >>> recipe.normalize(np.array([[[[0, 255]]]], dtype=np.uint8)).ravel().tolist()
        [-1.0, 1.0]
    """

    channels: int
    height: int
    width: int
    scale: float = 1 / 255
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: Resample = "bilinear"

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise UsageError(f"Preprocessing has {self.channels} channels, {len(self.mean)} means "
                             f"and {len(self.std)} deviations; give one of each per channel")
        numbers = (self.scale, *self.mean, *self.std)
        if not all(map(math.isfinite, numbers)) or min(self.std) <= 0:
            raise UsageError(f"Preprocessing needs finite numbers and deviations above 0, got "
                             f"scale={self.scale}, mean={self.mean}, std={self.std}")
        return self

    def normalize(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn integer images (N, C, H, W) into float32 model inputs of the same shape."""
        shape = (1, self.channels, 1, 1)
        std = np.asarray(self.std, dtype=np.float64)
        gain = (self.scale / std).astype(np.float32).reshape(shape)
        offset = (-np.asarray(self.mean, dtype=np.float64) / std).astype(np.float32).reshape(shape)
        result: NDArray[np.float32] = images.astype(np.float32)
        result *= gain
        result += offset
        return result


def read_pixels(image: Image, channels: int, height: int, width: int,
                resample: Resample = "bilinear") -> NDArray[np.uint8]:
    """An image's pixels as uint8 (C, H, W), rotated by EXIF, in grayscale or RGB, and resized.

    Training and device both use this function, so that they see the same pixels.
    """
    from PIL import Image as pillow  # noqa: PLC0415, N813 - optional
    from PIL import ImageOps  # noqa: PLC0415

    upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    if upright.size != (width, height):
        upright = upright.resize((width, height), pillow.Resampling[resample.upper()])
    pixels: NDArray[np.uint8] = np.asarray(upright).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1)
