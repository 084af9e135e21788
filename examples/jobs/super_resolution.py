"""Super-resolution: twice the resolution by pixel shuffle, measured in decibels of PSNR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.image import PeakSignalNoiseRatio

import edgewright as ew


class Residual(nn.Module):
    """Two convolutions added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, channels, H, W)."""
        refined: Tensor = x + self.two(F.relu(self.one(x)))
        return refined


def make_model() -> nn.Module:
    """Images (N, 1, 12, 12) to images (N, 1, 24, 24)."""
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), Residual(16), Residual(16),
                         nn.Conv2d(16, 4, 3, padding=1), nn.PixelShuffle(2))


def make_task() -> ew.Task:
    """Any metric of torchmetrics, with its unit."""
    x, y = _samples()
    goal = ew.Regression("l1", metric={"psnr": PeakSignalNoiseRatio(data_range=1.0)}, unit="dB")
    return ew.Task((x[:200], y[:200]), test=(x[200:], y[200:]), goal=goal)


def _samples() -> tuple[Tensor, Tensor]:
    """Blurred noise at half the resolution, (260, 1, 12, 12), and at the whole one."""
    noise = torch.rand(260, 1, 36, 36, generator=torch.Generator().manual_seed(0))
    smooth = F.avg_pool2d(noise, 3, stride=1)[:, :, 5:29, 5:29]
    sharp = ((smooth - 0.5) * 3 + 0.5).clamp(0, 1)
    return F.avg_pool2d(sharp, 2), sharp
