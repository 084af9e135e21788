"""A model that runs at a lower image resolution."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.errors import UsageError


@final
class AtResolution(nn.Module):
    """Downsamples the images first, which reduces the cost of convolutions by 1 / factor^2.

    It takes the same images as the model, so that the two can form a cascade: easy images are
    classified at low resolution, and only the others at full resolution (compare Huang et al. 2018,
    "Multi-scale dense networks"). The model must accept smaller images; fine-tune it on them, at
    least briefly.

    Args:
        model: Takes images (N, C, H, W).
        factor: Side in pixels of the squares that are averaged.

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
            raise UsageError(f"images cannot be downsampled by a factor of {factor}; give 2 or "
                             "more")
        self.model = model
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """The model's output for the downsampled images."""
        found: Tensor = self.model(F.avg_pool2d(images, self.factor))
        return found
