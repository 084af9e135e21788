"""The input of a head: a tensor inside a network, and the size of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class NetworkSize(NamedTuple):
    """The cost of a whole network, which bounds the cost of its heads.

    Attributes:
        macs: Multiply-accumulates per sample.
        parameters: Number of parameters.
    """

    macs: int
    parameters: int


@dataclass(frozen=True)
class Features:
    """The tensor that a head reads.

    Attributes:
        shape: Shape for one sample: (width,), (channels, positions...), or (positions...,
            channels).
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
        """Size of the channel dimension."""
        return self.shape[-1] if self.channels_last else self.shape[0]

    @property
    def places(self) -> tuple[int, ...]:
        """Sizes of the spatial, time, or token dimensions."""
        return self.shape[:-1] if self.channels_last else self.shape[1:]
