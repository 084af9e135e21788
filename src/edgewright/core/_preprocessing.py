"""How a raw image becomes a model's input; part of the task, and of the bundle."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


class Preprocessing(BaseModel):
    """Image preprocessing: resize to ``height`` x ``width``, scale, subtract mean, divide by std.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        height: Pixels.
        width: Pixels.
        scale: Factor on the stored integer values, 1/255 for bytes.
        mean: Per channel, after scaling.
        std: Per channel, after scaling.
        resample: Filter used when an image has another size.

    Example:
        >>> import numpy as np
        >>> recipe = Preprocessing(channels=1, height=1, width=2, mean=(0.5,), std=(0.5,))
        >>> recipe.normalize(np.array([[[[0, 255]]]], dtype=np.uint8)).ravel().tolist()
        [-1.0, 1.0]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int
    height: int
    width: int
    scale: float = 1 / 255
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: Literal["bilinear", "bicubic", "nearest"] = "bilinear"

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
