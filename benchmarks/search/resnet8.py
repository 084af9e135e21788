"""ResNet-8 of MLPerf Tiny's image classification, and a better network as its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.common.paths import RESNETS
from edgewright.task import load_model

BYTES: Final = ",".join(["0"] * 3 + [str(1 / 255)] * 3)  # normalization of inputs in 0..255
_EPSILON: Final = 1e-3
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, with a 1 x 1 convolution if the width changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=stride % 2)
        self.norm1 = nn.BatchNorm2d(channels, _EPSILON)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels, _EPSILON)
        if stride > 1:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
        padded = F.pad(x, (0, 1, 0, 1)) if self.stride > 1 else x
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(padded)))))
        shortcut = self.shortcut(x) if self.stride > 1 else x
        return F.relu(out + shortcut)


class ResNet8(nn.Module):
    """The reference network: RGB images (N, 3, 32, 32) in 0..255 to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv": nn.Conv2d(3, 16, 3, padding=1),
                                   "norm": nn.BatchNorm2d(16, _EPSILON)})
        self.stage1, self.stage2 = Block(16, 16, 1), Block(16, 32, 2)
        self.stage3, self.fc = Block(32, 64, 2), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        out = F.relu(self.stem["norm"](self.stem["conv"](x)))
        out = self.stage3(self.stage2(self.stage1(out)))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))
        return logits


class FromBytes(nn.Module):
    """A network for images that are normalized with ImageNet's statistics, on inputs in 0..255."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(_STD).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to what the network returns."""
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits


def load_resnet8(folder: Path) -> nn.Module:
    """ResNet-8 with its weights."""
    network = ResNet8()
    network.load_state_dict(load_file(folder / "resnet8-mlperf-tiny-cifar10.safetensors"))
    return network.eval()


def load_teacher(folder: Path) -> nn.Module:
    """ResNet-56 on the inputs of ResNet-8."""
    weights = folder / "resnet56-cifar10.safetensors"
    return FromBytes(load_model(f"{RESNETS}:resnet56", weights)).eval()
