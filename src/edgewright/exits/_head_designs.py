"""Head designs: which tensors each kind supports, and how a head is built."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final, runtime_checkable

import torch
from pydantic import Field
from torch import nn

from edgewright.core import Choice, Settings
from edgewright.exits._dense_head import DenseHead
from edgewright.exits._features import (
    Features,
    NetworkSize,
    OutputSizes,
    explain_input,
    format_sizes,
    is_light,
)
from edgewright.exits._heads import LayerHead
from edgewright.program import Program

_MIN_SIDE: Final = 4  # per side
_MAX_SPATIAL_DIMS: Final = 3
_DEFAULT_GRID: Final = 2


class Head(Protocol):
    """A head for one tensor, before its module is built.

    Attributes:
        kind: Name of its design.
        features: The tensor it reads.
        macs: Multiply-accumulates per sample.
    """

    @property
    def kind(self) -> str:
        """Name of its design."""
        ...

    @property
    def features(self) -> Features:
        """The tensor it reads."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        ...

    def make(self) -> nn.Module:
        """A module with fresh weights, from (N, *shape) to (N, *output).

        Its last layer's tensors should be called ``weight`` and ``bias``; see `add_exits`.
        """
        ...


@runtime_checkable
class HeadDesign(Protocol):
    """A kind of head; implement this protocol for your own heads, with `measure_head`.

    Attributes:
        name: Identifies the design *and its settings* in a saved recipe.

    Example:
        >>> class Wide:
        ...     name = "wide"
        ...     def incompatibility(self, features, output):
        ...         return "" if len(features.shape) == 1 else "a wide head reads (N, width)"
        ...     def design(self, features, output, network):
        ...         return measure_head(self.name, features, lambda: nn.Sequential(
        ...             nn.Linear(features.channels, 64), nn.ReLU(), nn.Linear(64, *output)))
        >>> isinstance(Wide(), HeadDesign)
        True
        >>> Wide().design(Features((8,), channels_last=False), (3,), NetworkSize(0, 0)).macs
        704
    """

    @property
    def name(self) -> str:
        """Identifies the design and its settings."""
        ...

    def incompatibility(self, features: Features, output: OutputSizes) -> str:
        """The reason why a tensor cannot feed such a head; empty if it can.

        Args:
            features: The tensor.
            output: Sizes of one sample's output, without the batch: (classes,) for a classifier,
                (classes, height, width) per pixel, or () for a single number.
        """
        ...

    def design(self, features: Features, output: OutputSizes, network: NetworkSize) -> Head:
        """Design the head for a compatible tensor.

        Args:
            features: The tensor.
            output: Sizes of one sample's output.
            network: The cost of the whole network.
        """
        ...


@final
@dataclass(frozen=True)
class MeasuredHead:
    """A head whose cost was counted on its graph; made by `measure_head`."""

    kind: str
    features: Features
    macs: int
    build: Callable[[], nn.Module]

    def make(self) -> nn.Module:
        """A module with fresh weights."""
        return self.build()


def measure_head(kind: str, features: Features, build: Callable[[], nn.Module]) -> MeasuredHead:
    """Make a head from any module and count its multiply-accumulates on its graph.

    Args:
        kind: Name of its design.
        features: The tensor it reads.
        build: Builds the module with fresh weights, from (N, *shape) to (N, *output).

    Raises:
        ModelError: The module cannot be captured.

    Example:
        >>> features = Features((8,), channels_last=False)
        >>> measure_head("linear", features, lambda: nn.Linear(8, 3)).macs
        24
    """
    with torch.random.fork_rng(devices=()):
        program = Program.capture(build(), torch.zeros(2, *features.shape))
    return MeasuredHead(kind, features, program.costs().macs, build)


@final
class PooledHead(Settings):
    """Average pooling to a grid, or over all tokens, and a linear layer: the cheapest head.

    Attributes:
        grid: Side of the grid that an image is pooled to; 1 discards all spatial information.

    Example:
        >>> features = Features((16, 8, 8), channels_last=False)
        >>> PooledHead().design(features, (10,), NetworkSize(0, 0)).macs
        640
    """

    grid: int = Field(default=_DEFAULT_GRID, ge=1)

    @property
    def name(self) -> str:
        """``pooled``."""
        return "pooled"

    def incompatibility(self, features: Features, output: OutputSizes) -> str:
        """Supports up to three spatial dimensions."""
        fits = len(features.places) <= _MAX_SPATIAL_DIMS
        return _explain_output(self.name, output) or ("" if fits else explain_input(
            self.name, "(N, width), or channels and places", features))

    def design(self, features: Features, output: OutputSizes, network: NetworkSize) -> Head:
        """The head for a tensor."""
        del network
        return LayerHead("pooled", features, output, self.grid)


@final
class ConvolutionalHead(Settings):
    """Separable convolutions of stride two that double the channels, then as `PooledHead`.

    There are as many convolutions as are cheap relative to the network, at least one. Choose it for
    early, high-resolution feature maps.

    Attributes:
        grid: Side of the grid that the last feature map is pooled to.

    Example:
        >>> features = Features((16, 8, 8), channels_last=False)
        >>> ConvolutionalHead().design(features, (10,), NetworkSize(10**6, 10**5)).halvings
        1
    """

    grid: int = Field(default=_DEFAULT_GRID, ge=1)

    @property
    def name(self) -> str:
        """``convolutional``."""
        return "convolutional"

    def incompatibility(self, features: Features, output: OutputSizes) -> str:
        """Supports one or two spatial dimensions, channels first."""
        fits = not features.channels_last and len(features.places) in (1, 2)
        return _explain_output(self.name, output) or ("" if fits else explain_input(
            self.name, "(N, channels, time) or (N, channels, height, width)", features))

    def design(self, features: Features, output: OutputSizes, network: NetworkSize) -> LayerHead:
        """The deepest head that is cheap relative to the network, else one convolution."""
        return self.light(features, output, network) or self._deep(features, output, 1)

    def light(self, features: Features, output: OutputSizes,
              network: NetworkSize) -> LayerHead | None:
        """The deepest head that is cheap relative to the network; None if there is none."""
        heads = (self._deep(features, output, halvings)
                 for halvings in range(_count_halvings(min(features.places)), 0, -1))
        return next((head for head in heads if is_light(head.macs, head.parameters, network)),
                    None)

    def _deep(self, features: Features, output: OutputSizes, halvings: int) -> LayerHead:
        return LayerHead("convolutional", features, output, self.grid, halvings)


@final
class TokenHead(Settings):
    """The mean over the tokens, a layer norm and a linear layer, for transformers.

    Example:
        >>> TokenHead().incompatibility(Features((5, 8), channels_last=True), (3,))
        ''
    """

    @property
    def name(self) -> str:
        """``token``."""
        return "token"

    def incompatibility(self, features: Features, output: OutputSizes) -> str:
        """Supports tokens, channels last."""
        fits = features.channels_last and len(features.places) > 0
        return _explain_output(self.name, output) or ("" if fits else explain_input(
            self.name, "(N, tokens..., channels)", features))

    def design(self, features: Features, output: OutputSizes, network: NetworkSize) -> Head:
        """The head for a tensor."""
        del network
        return LayerHead("token", features, output)


@final
class TemporalHead(Settings):
    """Means and standard deviations over time, and a linear layer, for audio and sensors.

    Example:
        >>> TemporalHead().incompatibility(Features((16, 8, 8), channels_last=False), (3,))
        'a temporal head reads (N, channels, time), its shape is (N, 16, 8, 8)'
    """

    @property
    def name(self) -> str:
        """``temporal``."""
        return "temporal"

    def incompatibility(self, features: Features, output: OutputSizes) -> str:
        """Supports one time dimension, channels first."""
        fits = not features.channels_last and len(features.places) == 1
        return _explain_output(self.name, output) or ("" if fits else explain_input(
            self.name, "(N, channels, time)", features))

    def design(self, features: Features, output: OutputSizes, network: NetworkSize) -> Head:
        """The head for a tensor."""
        del network
        return LayerHead("temporal", features, output)


@final
class AutoHead(Settings):
    """Selects a suitable head for each tensor.

    ``dense`` for an output per pixel. Else ``temporal`` for (N, channels, time), ``token`` if the
    channels are last, ``convolutional`` for feature maps if that is cheap relative to the network,
    and ``pooled`` otherwise.

    Attributes:
        grid: Side of the grid of pooling heads.

    Example:
        >>> head = AutoHead().design(Features((16, 8, 8), False), (10,), NetworkSize(10**6, 10**5))
        >>> head.kind
        'convolutional'
    """

    grid: int = Field(default=_DEFAULT_GRID, ge=1)

    @property
    def name(self) -> str:
        """``auto``."""
        return "auto"

    def incompatibility(self, features: Features, output: OutputSizes) -> str:
        """Supports what `DenseHead` or `PooledHead` does, which includes what others support."""
        design = DenseHead() if len(output) > 1 else PooledHead(grid=self.grid)
        return design.incompatibility(features, output)

    def design(self, features: Features, output: OutputSizes, network: NetworkSize) -> Head:
        """The head for a tensor."""
        for design in (DenseHead(), TemporalHead(), TokenHead()):
            if not design.incompatibility(features, output):
                return design.design(features, output, network)
        convolutional = ConvolutionalHead(grid=self.grid)
        light = (None if convolutional.incompatibility(features, output) else
                 convolutional.light(features, output, network))
        return light or PooledHead(grid=self.grid).design(features, output, network)


HEADS: Final = Choice(
    auto=AutoHead, pooled=PooledHead, convolutional=ConvolutionalHead, token=TokenHead,
    temporal=TemporalHead, dense=DenseHead, protocol=HeadDesign)


def _explain_output(kind: str, output: OutputSizes) -> str:
    """The reason why a head that pools cannot return an output; empty if it can."""
    if len(output) <= 1:
        return ""
    return f"a {kind} head returns (N, width), the program {format_sizes(output)}"


def _count_halvings(side: int) -> int:
    """How often to halve a side until few positions remain; at least once."""
    return max(1, math.ceil(math.log2(side / _MIN_SIDE)))
