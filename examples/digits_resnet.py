"""A small residual network for 8 x 8 grayscale images, the demo's teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, with a projection if the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.project = nn.Sequential() if channels_in == channels and stride == 1 else \
            nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False),
                          nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.project(x))


class DigitsResNet(nn.Module):
    """A stem, two blocks at 8 x 8, two at 4 x 4, and a linear classifier."""

    def __init__(self, width: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False),
                                  nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(Block(width, width, 1), Block(width, width, 1),
                                    Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 8, 8) to logits (N, classes)."""
        features = self.blocks(self.stem(x))
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(features, 1).flatten(1))
        return logits


def digits_resnet() -> DigitsResNet:
    """The demo's teacher, untrained: 0.68 M parameters, 17.9 M multiply-accumulates."""
    return DigitsResNet()
