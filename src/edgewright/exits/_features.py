"""What a head reads: a tensor inside a network, and the size of the network around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class NetworkSize(NamedTuple):
    """What a whole network costs, for heads that are to be small beside it.

    Attributes:
        macs: Multiply-accumulates of one sample.
        parameters: Numbers it is trained in.
    """

    macs: int
    parameters: int


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
