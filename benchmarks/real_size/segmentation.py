"""Segmentation of blood cells by a U-Net; the pixel labels are derived from boxes.

BCCD (Shenggan/BCCD_Dataset, MIT) has boxes, no masks: a pixel belongs to a cell if it lies in the
ellipse that a box encloses; platelets are drawn over white cells, and those over red ones. So the
figures say how well the files reproduce these ellipses, not the outlines of cells. Images, their
splits and their variation are those of ``benchmarks.detection.bccd``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import edgewright as ew
from benchmarks.detection.bccd import CLASSES, HEIGHT, PREPROCESSING, WIDTH, BloodCells
from benchmarks.real_size.job import Job

_DRAWN: Final = (0, 1, 2)  # red, white, platelets: later ones lie over earlier ones


class UNet(nn.Module):
    """Three resolutions with skip connections, and a coarse map that is dropped at export."""

    def __init__(self, classes: int = len(CLASSES) + 1, channels: int = 16) -> None:
        super().__init__()
        one, two, three = channels, 2 * channels, 3 * channels
        self.stem = nn.Sequential(_convolution(3, one, stride=2), _convolution(one, one))
        self.middle = nn.Sequential(_convolution(one, two, stride=2), _convolution(two, two))
        self.coarse = nn.Sequential(_convolution(two, three, stride=2),
                                    _convolution(three, three), _convolution(three, three))
        self.up_middle = nn.ConvTranspose2d(three, two, 2, stride=2)
        self.join_middle = _convolution(2 * two, two)
        self.up_fine = nn.ConvTranspose2d(two, one, 2, stride=2)
        self.join_fine = _convolution(2 * one, one)
        self.out = nn.ConvTranspose2d(one, classes, 2, stride=2)
        self.aux = nn.Conv2d(three, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W) to logits (N, classes, H, W), and coarse ones at H / 8."""
        fine = self.stem(x)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.join_middle(torch.cat([middle, self.up_middle(coarse)], dim=1))
        fine = self.join_fine(torch.cat([fine, self.up_fine(middle)], dim=1))
        return {"out": self.out(fine), "aux": self.aux(coarse)}


@final
class CellPixels(Dataset[tuple[Tensor, Tensor]]):
    """Images and the class of each pixel, (H, W) int64: 0 is the background."""

    def __init__(self, cells: BloodCells) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, target = self._cells[index]
        return image, draw_ellipses(target["boxes"], target["labels"])


def draw_ellipses(boxes: Tensor, labels: Tensor) -> Tensor:
    """The class of each pixel, (HEIGHT, WIDTH): 1 + label inside a box's ellipse, else 0."""
    rows = torch.arange(HEIGHT)[:, None] + 0.5
    columns = torch.arange(WIDTH)[None, :] + 0.5
    pixels = torch.zeros(HEIGHT, WIDTH, dtype=torch.long)
    for label in _DRAWN:
        for left, top, right, bottom in boxes[labels == label].tolist():
            across = (columns - (left + right) / 2) / ((right - left) / 2)
            down = (rows - (top + bottom) / 2) / ((bottom - top) / 2)
            pixels[across.square() + down.square() <= 1] = label + 1
    return pixels


def make_task(data: Path) -> ew.Task:
    """Mean intersection over union of background and cells."""
    train, val, test = (
        CellPixels(BloodCells(next((data / "bccd").glob(f"{name}-*.parquet")),
                              augment=name == "train")) for name in ("train", "validation", "test"))
    return ew.Task(train, val, test, ew.Segmentation(output="out"), name="bccd-pixels",
                   classes=("background", *CLASSES), preprocessing=PREPROCESSING)


def _convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
                         nn.BatchNorm2d(channels), nn.ReLU())


JOB: Final = Job(UNet, make_task,
                 ew.Training(epochs=20, batch_size=8, lr=0.004, optimizer="adamw",
                             schedule={"cosine": 1}, weight_decay=0.02, clip_norm=5), ratio=0.3)
