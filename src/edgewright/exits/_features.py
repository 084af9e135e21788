"""What a head is designed for: a tensor inside a network, an output, the network's size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

OutputSizes = tuple[int, ...]  # of one sample's output, without the batch

_MAX_MACS_SHARE: Final = 0.02  # share of the network's cost that is allowed for a light head
_MAX_PARAMETERS_SHARE: Final = 0.05


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


def is_light(macs: int, parameters: int, network: NetworkSize) -> bool:
    """Whether a head is cheap relative to the network.

    Example:
        >>> is_light(10, 10, NetworkSize(1000, 1000)), is_light(10, 60, NetworkSize(1000, 1000))
        (True, False)
    """
    return (macs <= _MAX_MACS_SHARE * network.macs
            and parameters <= _MAX_PARAMETERS_SHARE * network.parameters)


def explain_input(kind: str, reads: str, features: Features) -> str:
    """The reason why a tensor cannot feed a head of a kind."""
    last = ", channels last" if features.channels_last and features.places else ""
    return f"a {kind} head reads {reads}, its shape is {format_sizes(features.shape)}{last}"


def format_sizes(sizes: tuple[int, ...]) -> str:
    """Write the shape of a batch.

    Example:
        >>> format_sizes((3, 8, 8)), format_sizes(())
        ('(N, 3, 8, 8)', '(N,)')
    """
    return f"({', '.join(['N', *map(str, sizes)])}{',' * (not sizes)})"
