"""Super-resolution: CIFAR-10's images from half their size, by residual blocks and pixel shuffle.

Images of 32 x 32 are reduced to 16 x 16 by bicubic interpolation with antialiasing. 4,500 of the
training images are trained on, 500 are held out, and the first 2,000 test images are tested on.
PSNR is that of the mean squared error over all test images, in RGB, values from 0 to 1.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchmetrics.image import PeakSignalNoiseRatio

import edgewright as ew
from benchmarks.real_size.job import Job

_IMAGES: Final = {"train": 5_000, "test": 2_000}
_CHUNK: Final = 500


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


class SuperResolution(nn.Module):
    """Details for each pixel's four parts, added to the pixel itself (Lim et al. 2017, EDSR)."""

    def __init__(self, channels: int = 24, blocks: int = 3) -> None:
        super().__init__()
        self.details = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1),
            *(Residual(channels) for _ in range(blocks)),
            nn.Conv2d(channels, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to images (N, 3, 2 H, 2 W)."""
        sharper: Tensor = F.interpolate(x, scale_factor=2.0, mode="nearest") + self.details(x)
        return sharper


def make_task(data: Path) -> ew.Task:
    """Pairs of small and whole images."""
    train, test = ((_reduce(images), images)
                   for images in (_read(data / "cifar10", name) for name in ("train", "test")))
    goal = ew.Regression("l1", metric={"psnr": PeakSignalNoiseRatio(data_range=1.0)}, unit="dB")
    return ew.Task(train, test=test, goal=goal, name="cifar10-x2")


def compare(data: Path, task: ew.Task) -> dict[str, float]:
    """Bicubic interpolation."""
    del data
    metric = PeakSignalNoiseRatio(data_range=1.0)
    for batch in task.test.batches(_CHUNK):
        whole = F.interpolate(batch.inputs[0], scale_factor=2.0, mode="bicubic").clamp(0, 1)
        metric.update(whole, batch.targets)
    return {"bicubic": float(metric.compute())}


def _read(folder: Path, split: str) -> Tensor:
    """The first images of a split, (N, 3, 32, 32), from 0 to 1."""
    file = min(folder.glob(f"{split}-*.parquet"))
    rows = pq.read_table(file, columns=["img"]).slice(0, _IMAGES[split]).to_pylist()
    images = np.stack([np.array(Image.open(io.BytesIO(row["img"]["bytes"]))) for row in rows])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _reduce(images: Tensor) -> Tensor:
    return torch.cat([F.interpolate(chunk, scale_factor=0.5, mode="bicubic", antialias=True)
                      for chunk in torch.split(images, _CHUNK)]).clamp(0, 1)


JOB: Final = Job(SuperResolution, make_task,
                 ew.Training(epochs=5, batch_size=16, lr=0.002, optimizer="adamw",
                             schedule={"cosine": 0.2}, weight_decay=0, augment=False), ratio=0.3,
                 simple_figures=compare)
