"""A model that looks at its images from further away."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.errors import UsageError


@final
class AtResolution(nn.Module):
    """A model whose images are shrunk first, so that it costs less: 1 / factor^2 of a convolution.

    It takes the images that the model takes, so that the two make a cascade: images that are easy
    are done with at low resolution, and only the others are looked at in full (Huang et al. 2018,
    "Multi-scale dense networks", spends likewise less on easy ones). The model has to take smaller
    images; train it on them, if only briefly.

    Args:
        model: Takes images (N, C, H, W).
        factor: Averages squares of this many pixels a side.

    Raises:
        UsageError: The factor is below 2.

    Example:
        >>> import torch
        >>> pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> AtResolution(pooled, 2)(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 4])
    """

    def __init__(self, model: nn.Module, factor: int = 2) -> None:
        super().__init__()
        if factor < 2:
            raise UsageError(f"images cannot be shrunk by a factor of {factor}; give 2 or more")
        self.model = model
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """The model's output for the shrunk images."""
        found: Tensor = self.model(F.avg_pool2d(images, self.factor))
        return found
