"""The head of per-pixel outputs: a small convolution, resized to the output's size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.core import Settings
from edgewright.exits._features import (
    Features,
    NetworkSize,
    OutputSizes,
    explain_input,
    format_sizes,
    is_light,
)
from edgewright.exits._heads import CONVOLUTIONS, KERNEL, separable_convolution

_MODES: Final = {1: "linear", 2: "bilinear"}  # by the number of spatial dimensions


@final
class DenseHead(Settings):
    """A class per pixel: a convolution to the classes, resized to the output's size.

    A separable convolution with batch norm and ReLU comes before it if that is cheap relative to
    the network. The size is changed last and linearly, as in FCN (Long, Shelhamer & Darrell 2015,
    "Fully convolutional networks for semantic segmentation"), so the convolutions compute at the
    size of the features.

    Example:
        >>> head = DenseHead().design(Features((16, 8, 8), channels_last=False), (3, 16, 16),
        ...                           NetworkSize(10**5, 10**4))
        >>> head.kind, head.macs
        ('dense', 3072)
    """

    @property
    def name(self) -> str:
        """``dense``."""
        return "dense"

    def incompatibility(self, features: Features, output: OutputSizes) -> str:
        """Supports one or two spatial dimensions, channels first, in features and output."""
        if len(output) - 1 not in _MODES:
            return (f"a dense head returns (N, classes, time) or (N, classes, height, width), the "
                    f"program {format_sizes(output)}")
        fits = not features.channels_last and len(features.shape) == len(output)
        places = ", ".join(("height", "width")[:len(output) - 1] if len(output) > 2 else ["time"])
        return "" if fits else explain_input(self.name, f"(N, channels, {places})", features)

    def design(self, features: Features, output: OutputSizes,
               network: NetworkSize) -> DenseLayerHead:
        """The head with a separable convolution if that is cheap, else without."""
        mixed = DenseLayerHead(features, output, mixes=True)
        return (mixed if is_light(mixed.macs, mixed.parameters, network) else
                DenseLayerHead(features, output, mixes=False))


@final
@dataclass(frozen=True)
class DenseLayerHead:
    """A dense head for one tensor.

    Attributes:
        features: The tensor it reads, (channels, *places).
        output: Sizes of one sample's output, (classes, *places).
        mixes: Whether it has a separable convolution.
        kind: Name of its design.

    Example:
        >>> import torch
        >>> head = DenseLayerHead(Features((4, 6), channels_last=False), (3, 12), mixes=True)
        >>> head.make()(torch.zeros(2, 4, 6)).shape, head.macs
        (torch.Size([2, 3, 12]), 240)
    """

    features: Features
    output: OutputSizes
    mixes: bool
    kind: str = "dense"

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample, without the interpolation."""
        return math.prod(self.features.places) * self._weights

    @property
    def parameters(self) -> int:
        """Number of parameters, without those of the norm."""
        return self._weights + self.output[0]

    @property
    def _weights(self) -> int:
        channels = self.features.channels
        window = KERNEL ** len(self.features.places)
        return channels * (self.output[0] + (window + channels if self.mixes else 0))

    def make(self) -> nn.Module:
        """A module with fresh weights, from (N, *shape) to (N, *output)."""
        return _Dense(self)


@final
class _Dense(nn.Module):
    """A separable convolution if the head mixes, a convolution to the classes, interpolation."""

    def __init__(self, head: DenseLayerHead) -> None:
        super().__init__()
        rank = len(head.features.places)
        self._size, self._mode = head.output[1:], _MODES[rank]
        self._is_resized = head.features.places != self._size
        self._convolve: Callable[..., Tensor] = F.conv1d if rank == 1 else F.conv2d
        last = CONVOLUTIONS[rank + 1](head.features.channels, head.output[0], 1)
        self.convolutions = nn.Sequential(
            *(separable_convolution(head.features, head.features, stride=1) if head.mixes else ()))
        self.weight, self.bias = last.weight, last.bias

    def forward(self, x: Tensor) -> Tensor:
        """From (N, channels, *places) to (N, classes, *places of the output)."""
        x = self._convolve(self.convolutions(x), self.weight, self.bias)
        return (F.interpolate(x, self._size, mode=self._mode, align_corners=False)
                if self._is_resized else x)
