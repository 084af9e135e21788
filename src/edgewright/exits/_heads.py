"""Heads: the few layers from a tensor inside a network to an exit's logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HeadKind = Literal["pooled", "convolutional", "token", "temporal"]

_LIGHT: Final = 0.02  # share of the network's multiply-accumulates that a head may take unasked
_KERNEL: Final = 3
_CONVOLUTIONS: Final[dict[int, type[nn.Conv1d | nn.Conv2d]]] = {2: nn.Conv1d, 3: nn.Conv2d}
_POOLINGS: Final[dict[int, Callable[[Tensor, Any], Tensor]]] = {
    1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d,
}  # by the number of places; ONNX has none for volumes, of which the whole mean is taken
_MOST_PLACES: Final = 3


@dataclass(frozen=True)
class Features:
    """The tensor that a head reads.

    Attributes:
        shape: Of one sample: (width,), (channels, places...), or (places..., channels).
        channels_last: Whether the channels are the last dimension, as linear layers and layer
            norms read them.

    Example:
        >>> Features((16, 8, 8), channels_last=False).channels
        16
    """

    shape: tuple[int, ...]
    channels_last: bool

    @property
    def channels(self) -> int:
        """Size of the dimension that is no place."""
        return self.shape[-1] if self.channels_last else self.shape[0]

    @property
    def places(self) -> tuple[int, ...]:
        """Sizes of space, of time, or of the tokens."""
        return self.shape[:-1] if self.channels_last else self.shape[1:]


def choose_head(wanted: Literal["auto"] | HeadKind, features: Features, classes: int, pool: int,
                network_macs: int) -> HeadKind:
    """The head that fits a tensor, or the one that is wanted.

    Args:
        wanted: A kind, or ``auto`` for the one that fits.
        features: The tensor.
        classes: Of the logits.
        pool: Side of a pooling head's grid.
        network_macs: A convolutional head is chosen where it takes little of these.

    Example:
        >>> choose_head("auto", Features((16, 8, 8), channels_last=False), 10, 2, 10**6)
        'convolutional'
    """
    if wanted != "auto":
        return wanted
    if not misfit("temporal", features):
        return "temporal"
    if not misfit("token", features):
        return "token"
    light = _LIGHT * network_macs
    if (not misfit("convolutional", features)
            and head_macs("convolutional", features, classes, pool) <= light):
        return "convolutional"
    return "pooled"


def misfit(kind: HeadKind, features: Features) -> str:
    """Why a tensor cannot feed a head of a kind, in words; empty where it can.

    Example:
        >>> misfit("temporal", Features((16, 8, 8), channels_last=False))
        'a temporal head reads (N, channels, time), its shape is (N, 16, 8, 8)'
    """
    reads = {"pooled": "(N, width), or channels and places", "token": "(N, tokens..., channels)",
             "convolutional": "(N, channels, time) or (N, channels, height, width)",
             "temporal": "(N, channels, time)"}
    places = len(features.places)
    fits = {"pooled": places <= _MOST_PLACES,
            "convolutional": not features.channels_last and places + 1 in _CONVOLUTIONS,
            "token": features.channels_last and places > 0,
            "temporal": not features.channels_last and places == 1}
    if fits[kind]:
        return ""
    last = ", channels last" if features.channels_last and places else ""
    return (f"a {kind} head reads {reads[kind]}, its shape is "
            f"(N, {', '.join(map(str, features.shape))}){last}")


def make_head(kind: HeadKind, features: Features, classes: int, pool: int) -> nn.Module:
    """A head with fresh weights, from (N, *shape) to logits (N, classes).

    Args:
        kind: One that fits.
        features: The tensor it will read.
        classes: Of the logits.
        pool: Side of a pooling head's grid.

    Example:
        >>> head = make_head("token", Features((5, 8), channels_last=True), 3, 2)
        >>> head(torch.zeros(2, 5, 8)).shape
        torch.Size([2, 3])
    """
    if kind == "convolutional":
        return _Convolutional(features, classes, pool)
    if kind == "temporal":
        return _Temporal(features, classes)
    if kind == "token":
        return _Token(features, classes)
    return _Pooled(features, classes, pool)


def head_macs(kind: HeadKind, features: Features, classes: int, pool: int) -> int:
    """Multiply-accumulates of a head for one sample.

    Example:
        >>> head_macs("pooled", Features((16, 8, 8), channels_last=False), 10, 2)
        640
    """
    channels = features.channels
    if kind == "convolutional":
        halved = _halved(features)
        window = math.prod([_KERNEL] * len(features.places))
        separable = math.prod(halved.places) * channels * (window + channels)
        return separable + math.prod(halved.shape[:1] + _grid(halved, pool)) * classes
    if kind == "temporal":
        return 2 * channels * classes
    return channels * (1 if kind == "token" else math.prod(_grid(features, pool))) * classes


@final
class _Pooled(nn.Linear):
    """Means over the cells of a grid, or over all tokens; then a linear layer."""

    def __init__(self, features: Features, classes: int, pool: int) -> None:
        self._grid = _grid(features, pool)
        super().__init__(features.channels * math.prod(self._grid), classes)
        self._tokens = list(range(1, len(features.shape))) if features.channels_last else []

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean(self._tokens) if self._tokens else _pooled(x, self._grid)
        return super().forward(x)


@final
class _Convolutional(nn.Linear):
    """A separable convolution of stride two, batch norm, ReLU; then pooled, and a linear layer.

    A light form of the convolutions before the exits of MSDNet (Huang et al. 2018, section 4).
    """

    def __init__(self, features: Features, classes: int, pool: int) -> None:
        halved, channels = _halved(features), features.channels
        self._grid = _grid(halved, pool)
        super().__init__(channels * math.prod(self._grid), classes)
        convolution = _CONVOLUTIONS[len(features.shape)]
        self.depthwise = convolution(channels, channels, _KERNEL, stride=2, padding=1,
                                     groups=channels, bias=False)
        self.pointwise = convolution(channels, channels, 1, bias=False)
        self.norm = (nn.BatchNorm1d if len(features.shape) == 2 else nn.BatchNorm2d)(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.pointwise(self.depthwise(x))))
        return super().forward(_pooled(x, self._grid))


@final
class _Token(nn.Linear):
    """The mean over the tokens, a layer norm, a linear layer.

    Which token stands for the class, if one does, cannot be read off a graph.
    """

    def __init__(self, features: Features, classes: int) -> None:
        super().__init__(features.channels, classes)
        self.norm = nn.LayerNorm(features.channels)
        self._tokens = list(range(1, len(features.shape)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x.mean(self._tokens)))


@final
class _Temporal(nn.Linear):
    """Means and standard deviations over time, side by side; then a linear layer.

    Statistics pooling (Snyder et al. 2018, "X-vectors", section 3.1), with a floor under the
    variance: the root has no gradient at 0, where a channel is that never fires.
    """

    _FLOOR: Final = 1e-5

    def __init__(self, features: Features, classes: int) -> None:
        super().__init__(2 * features.channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        deviations = (x.var(2, correction=0) + self._FLOOR).sqrt()
        return super().forward(torch.cat([x.mean(2), deviations], dim=1))


def _pooled(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Means over the cells of a grid, (N, channels * cells)."""
    if len(grid) in _POOLINGS:
        return _POOLINGS[len(grid)](x, grid).flatten(1)
    return x.mean(list(range(2, x.ndim))) if grid else x


def _grid(features: Features, pool: int) -> tuple[int, ...]:
    """The grid that places are pooled to; tokens have none."""
    if features.channels_last:
        return ()
    side = pool if len(features.places) in _POOLINGS else 1
    return tuple(min(side, size) for size in features.places)


def _halved(features: Features) -> Features:
    """What the convolution of stride two makes of a tensor."""
    return Features((features.channels, *(-(-side // 2) for side in features.places)),
                    channels_last=False)
