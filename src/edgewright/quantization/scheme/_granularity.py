"""What shares a scale in the weights."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, final

from pydantic import Field

from edgewright.core import Settings
from edgewright.quantization.scheme._named import Named, Positional

GranularityName = Literal["per_tensor", "per_channel", "per_group"]


@final
class PerTensor(Settings):
    """One scale for a whole weight: the least to store, and the least accurate.

    Example:
        >>> PerTensor()
        PerTensor()
    """


@final
class PerChannel(Settings):
    """One scale for each output channel of a weight; what every target computes with.

    Example:
        >>> PerChannel()
        PerChannel()
    """


@final
class PerGroup(Positional):
    """One scale for each ``size`` consecutive inputs of an output channel.

    For 4 bits and fewer in linear layers, with activations in floating point: the smaller the
    group, the closer the weights, and the more scales there are to store. Where ``size`` does not
    divide a layer's inputs, and in convolutions, a whole output channel shares a scale.

    Attributes:
        size: Inputs that share a scale, at least 2; the runtimes' kernels take powers of two from
            16.

    Raises:
        UsageError: ``size`` is no integer, or less than 2.

    Example:
        >>> PerGroup(64)
        PerGroup(size=64)
    """

    size: int = Field(default=32, ge=2)

    def __init__(self, size: int = 32) -> None:
        self._set(size=size)


GRANULARITIES: Final = Named(per_tensor=PerTensor, per_channel=PerChannel, per_group=PerGroup)
Granularity: TypeAlias = Annotated[PerTensor | PerChannel | PerGroup, GRANULARITIES]
