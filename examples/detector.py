"""A small anchor-free detector with C2f blocks and a DFL head, as in YOLOv8.

Its feature maps have strides of 8 and 16 pixels: pass ``goal=ew.Detection(strides=STRIDES)``. The
boxes are decoded within the model, so that its file returns pixels.
"""

from __future__ import annotations

import math
from typing import Final, cast

import torch
from torch import Tensor, nn

STRIDES: Final = (8, 16)
BINS: Final = 16  # distances of 0 to 15 cells
_PRIOR: Final = 0.01  # probability of every class before training
_DECAY: Final = 0.7  # of a distance's logit per cell: boxes of two cells, which small objects need


def conv(channels_in: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU, which quantize well together."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels), nn.ReLU())


class C2f(nn.Module):
    """Two halves of the channels, one of which goes through a residual block; all are joined."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.entry = conv(channels_in, channels, kernel=1)
        self.block = nn.Sequential(conv(half, half), conv(half, half))
        self.join = conv(channels + half, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels, H, W)."""
        first, second = self.entry(x).chunk(2, dim=1)
        joined: Tensor = self.join(torch.cat([first, second, second + self.block(second)], dim=1))
        return joined


class Head(nn.Module):
    """Scores and distributions of distances for each cell of one feature map."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        distances, scores = nn.Conv2d(32, 4 * BINS, 1), nn.Conv2d(32, classes, 1)
        with torch.no_grad():
            cast(Tensor, scores.bias).fill_(-math.log(1 / _PRIOR - 1))
            cast(Tensor, distances.bias).copy_(-_DECAY * torch.arange(float(BINS)).repeat(4))
        self.distances = nn.Sequential(conv(channels, 32), distances)
        self.scores = nn.Sequential(conv(channels, 32), scores)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, channels, H, W) to (N, H * W, 4 * BINS) and (N, H * W, classes)."""
        distances, scores = (part(x).flatten(2).transpose(1, 2)
                             for part in (self.distances, self.scores))
        return distances, scores


class Detector(nn.Module):
    """A backbone of three stages, a path down from the last to the second and back, two heads.

    Args:
        classes: Number of classes.
        height: Height of the images in pixels, a multiple of 16.
        width: Their width.
        channels: Channels of the first convolution; later ones have up to five times as many.
    """

    centers: Tensor
    cells: Tensor
    bins: Tensor

    def __init__(self, classes: int, height: int, width: int, channels: int = 16) -> None:
        super().__init__()
        one, two, four, five = (channels * times for times in (1, 2, 4, 5))
        self.stem = conv(3, one, stride=2)
        self.stage1 = nn.Sequential(conv(one, two, stride=2), C2f(two, two))
        self.stage2 = nn.Sequential(conv(two, four, stride=2), C2f(four, four))
        self.stage3 = nn.Sequential(conv(four, five, stride=2), C2f(five, five))
        self.up = nn.Upsample(scale_factor=2)
        self.neck_fine = C2f(five + four, four)
        self.down = conv(four, four, stride=2)
        self.neck_coarse = C2f(four + five, five)
        self.head_fine, self.head_coarse = Head(four, classes), Head(five, classes)
        centers, cells = _find_cells(height, width)
        self.register_buffer("centers", centers, persistent=False)
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("bins", torch.arange(float(BINS)), persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, height, width) to boxes in pixels, logits and distributions."""
        fine = self.stage2(self.stage1(self.stem(x)))
        coarse = self.stage3(fine)
        fine = self.neck_fine(torch.cat([self.up(coarse), fine], dim=1))
        coarse = self.neck_coarse(torch.cat([self.down(fine), coarse], dim=1))
        found = [self.head_fine(fine), self.head_coarse(coarse)]
        distances, scores = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        return {"boxes": self._decode(distances), "scores": scores, "distances": distances}

    def _decode(self, distances: Tensor) -> Tensor:
        """The expected distances to the four edges, as boxes in pixels (Li et al. 2020, eq. 5)."""
        shares = distances.reshape(*distances.shape[:2], 4, BINS).softmax(dim=3)
        lengths = (shares * self.bins).sum(dim=3) * self.cells
        return torch.cat([self.centers - lengths[..., :2], self.centers + lengths[..., 2:]], dim=2)


def _find_cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Center (cells, 2) and size (cells, 1) of each cell in pixels, row by row."""
    centers, sizes = [], []
    for stride in STRIDES:
        rows, columns = torch.arange(height // stride), torch.arange(width // stride)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centers.append((torch.stack([x, y], dim=2).flatten(0, 1) + 0.5) * stride)
        sizes.append(torch.full((len(centers[-1]), 1), float(stride)))
    return torch.cat(centers), torch.cat(sizes)


def bccd_detector() -> Detector:
    """The detector of the BCCD benchmark: three kinds of blood cells, 192 x 144 pixels."""
    return Detector(classes=3, height=144, width=192)
