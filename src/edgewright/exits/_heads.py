"""Built-in heads that pool: from a tensor inside a network to one vector per sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.exits._features import Features

HeadKind = Literal["pooled", "convolutional", "token", "temporal"]

KERNEL: Final = 3
CONVOLUTIONS: Final[dict[int, type[nn.Conv1d | nn.Conv2d]]] = {2: nn.Conv1d, 3: nn.Conv2d}
_POOLINGS: Final[dict[int, Callable[[Tensor, Any], Tensor]]] = {
    1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d,
}  # by the number of spatial dimensions; ONNX has none for volumes, which use a global mean


@dataclass(frozen=True)
class LayerHead:
    """A built-in head for one tensor, and an output of one number or one vector per sample.

    Attributes:
        kind: A kind that supports the tensor.
        features: The tensor it reads.
        output: Sizes of one sample's output: (width,), or () for a number.
        pool: Side of the pooling grid.
        halvings: Number of convolutions of stride two in a convolutional head.

    Example:
        >>> pooled = LayerHead("pooled", Features((16, 8, 8), channels_last=False), (10,), pool=2)
        >>> pooled.macs, pooled.parameters
        (640, 650)
    """

    kind: HeadKind
    features: Features
    output: tuple[int, ...]
    pool: int = 2
    halvings: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return self.width * math.prod(self.output) + sum(
            math.prod(after.places) * weights for after, weights in self._convolutions())

    @property
    def parameters(self) -> int:
        """Number of parameters, without those of its norms."""
        return (self.width + 1) * math.prod(self.output) + sum(
            weights for _, weights in self._convolutions())

    def make(self) -> nn.Module:
        """A module with fresh weights, from (N, *shape) to (N, *output).

        Example:
            >>> head = LayerHead("token", Features((5, 8), channels_last=True), (3,), pool=2).make()
            >>> head(torch.zeros(2, 5, 8)).shape
            torch.Size([2, 3])
        """
        return _MODULES[self.kind](self)

    @property
    def scales(self) -> tuple[Features, ...]:
        """The input of each convolution, then of the pooling; each half as large, twice as deep."""
        scales = [self.features]
        for _ in range(self.halvings):
            sides = (-(-side // 2) for side in scales[-1].places)
            scales.append(Features((2 * scales[-1].channels, *sides), channels_last=False))
        return tuple(scales)

    @property
    def width(self) -> int:
        """Input features of the linear layer."""
        channels = self.scales[-1].channels
        if self.kind == "temporal":
            return 2 * channels
        return channels * (1 if self.kind == "token" else math.prod(self.grid))

    @property
    def grid(self) -> tuple[int, ...]:
        """The grid that spatial dimensions are pooled to; empty for tokens."""
        last = self.scales[-1]
        if last.channels_last:
            return ()
        side = self.pool if len(last.places) in _POOLINGS else 1
        return tuple(min(side, size) for size in last.places)

    def _convolutions(self) -> Iterator[tuple[Features, int]]:
        """The output of each separable convolution, and its number of weights."""
        window = math.prod([KERNEL] * len(self.features.places))
        for before, after in pairwise(self.scales):
            yield after, before.channels * (window + after.channels)


class _Head(nn.Linear):
    """The last layer of a head: a linear layer, whose output has the sizes that the head gives."""

    def __init__(self, head: LayerHead) -> None:
        super().__init__(head.width, math.prod(head.output))
        self._is_number = head.output == ()

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found.squeeze(1) if self._is_number else found


@final
class _Pooled(_Head):
    """Means over the cells of a grid, or over all tokens; then a linear layer."""

    def __init__(self, head: LayerHead) -> None:
        super().__init__(head)
        self._grid = head.grid
        self._tokens = (list(range(1, len(head.features.shape))) if head.features.channels_last
                        else [])

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean(self._tokens) if self._tokens else _pool_to_grid(x, self._grid)
        return super().forward(x)


@final
class _Convolutional(_Head):
    """Separable convolutions of stride two, each with batch norm and ReLU; pooled; a linear layer.

    Features near the input are too low-level for classification, so the head adds a small version
    of the following layers. A light form of the convolutions before the exits of MSDNet (Huang et
    al. 2018, section 4).
    """

    def __init__(self, head: LayerHead) -> None:
        super().__init__(head)
        self._grid = head.grid
        self.convolutions = nn.Sequential(*(
            layer for before, after in pairwise(head.scales)
            for layer in separable_convolution(before, after, stride=2)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_pool_to_grid(self.convolutions(x), self._grid))


def separable_convolution(before: Features, after: Features, *,
                          stride: int) -> Iterator[nn.Module]:
    """Depthwise convolution with a stride, pointwise convolution, batch norm, ReLU."""
    dimensions = len(before.shape)
    convolution = CONVOLUTIONS[dimensions]
    yield convolution(before.channels, before.channels, KERNEL, stride=stride, padding=1,
                      groups=before.channels, bias=False)
    yield convolution(before.channels, after.channels, 1, bias=False)
    yield (nn.BatchNorm1d if dimensions == 2 else nn.BatchNorm2d)(after.channels)
    yield nn.ReLU()


@final
class _Token(_Head):
    """The mean over the tokens, a layer norm, a linear layer.

    A class token cannot be identified from a graph, so all tokens are averaged.
    """

    def __init__(self, head: LayerHead) -> None:
        super().__init__(head)
        self.norm = nn.LayerNorm(head.features.channels)
        self._tokens = list(range(1, len(head.features.shape)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x.mean(self._tokens)))


@final
class _Temporal(_Head):
    """Means and standard deviations over time, side by side; then a linear layer.

    Statistics pooling (Snyder et al. 2018, "X-vectors", section 3.1), with a constant added to the
    variance, because the square root has no gradient at 0, for example for an inactive channel.
    """

    _FLOOR: Final = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        deviations = (x.var(2, correction=0) + self._FLOOR).sqrt()
        return super().forward(torch.cat([x.mean(2), deviations], dim=1))


_MODULES: Final[dict[HeadKind, Callable[[LayerHead], nn.Module]]] = {
    "pooled": _Pooled, "convolutional": _Convolutional, "token": _Token, "temporal": _Temporal,
}


def _pool_to_grid(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Average over the cells of a grid, (N, channels * cells)."""
    if len(grid) in _POOLINGS:
        return _POOLINGS[len(grid)](x, grid).flatten(1)
    return x.mean(list(range(2, x.ndim))) if grid else x
