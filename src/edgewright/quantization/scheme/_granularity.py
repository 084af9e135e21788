"""Granularity: which weights share a scale."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, final

from pydantic import Field

from edgewright.core import Choice, Positional, Settings

GranularityName = Literal["per_tensor", "per_channel", "per_group"]


@final
class PerTensor(Settings):
    """One scale per weight tensor: the smallest to store and the least accurate.

    Example:
        >>> PerTensor()
        PerTensor()
    """


@final
class PerChannel(Settings):
    """One scale per output channel of a weight; every target supports it.

    Example:
        >>> PerChannel()
        PerChannel()
    """


@final
class PerGroup(Positional):
    """One scale per ``size`` consecutive inputs of an output channel.

    Use it for linear layers with 4 bits or fewer and activations in floating point. Smaller groups
    are more accurate but store more scales. If ``size`` does not divide a layer's number of
    inputs, and in convolutions, each output channel has one scale.

    Attributes:
        size: Number of inputs that share a scale, at least 2. The runtimes' kernels accept powers
            of two from 16.

    Raises:
        UsageError: ``size`` is not an integer, or less than 2.

    Example:
        >>> PerGroup(64)
        PerGroup(size=64)
    """

    size: int = Field(default=32, ge=2)

    def __init__(self, size: int = 32) -> None:
        self._set(size=size)


GRANULARITIES: Final = Choice(per_tensor=PerTensor, per_channel=PerChannel, per_group=PerGroup)
Granularity: TypeAlias = Annotated[PerTensor | PerChannel | PerGroup, GRANULARITIES]
