"""How activations are quantized: with static ranges, or with ranges found at run time."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, final

from pydantic import BeforeValidator, SerializerFunctionWrapHandler, WrapSerializer

from edgewright.core import Choice, Positional, Settings
from edgewright.quantization.scheme._precision import Bits, check_bits

ActivationMode = Literal["static", "dynamic", "weight_only"]


@final
class StaticRange(Positional):
    """Static activation ranges, fixed by calibration.

    This is the fastest mode at run time, and all targets support it.

    Attributes:
        bits: Bits of the activations: 8, 4, 3, 2 or 1.
        symmetric: Whether the zero point is fixed in the middle of the grid; otherwise it depends
            on the range.

    Raises:
        UsageError: An unsupported number of bits.

    Example:
        >>> StaticRange(4, symmetric=True)
        StaticRange(bits=4, symmetric=True)
    """

    bits: Annotated[Bits, BeforeValidator(check_bits)] = 8
    symmetric: bool = False

    def __init__(self, bits: Bits = 8, *, symmetric: bool = False) -> None:
        self._set(bits=bits, symmetric=symmetric)

    @property
    def mode(self) -> ActivationMode:
        """The activation mode."""
        return "static"


@final
class DynamicRange(Settings):
    """Dynamic 8-bit activations: the range is computed from each input at run time.

    This needs no calibration data, but computing the range takes time. Use it for networks that
    spend most of their time in large linear layers.

    Example:
        >>> DynamicRange()
        DynamicRange()
    """

    @property
    def mode(self) -> ActivationMode:
        """The activation mode."""
        return "dynamic"

    @property
    def bits(self) -> Bits:
        """The only number of bits that runtimes support for dynamic quantization."""
        return 8

    @property
    def symmetric(self) -> bool:
        """False: runtimes compute a zero point from the range."""
        return False


def _from_bits(value: Any) -> Any:
    return StaticRange(check_bits(value)) if isinstance(value, int) else value


def _as_bits(value: Any, written: SerializerFunctionWrapHandler) -> Any:
    if isinstance(value, StaticRange) and not value.symmetric:
        return value.bits
    return written(value)


ACTIVATIONS: Final = Choice(static=StaticRange, dynamic=DynamicRange)
Activations: TypeAlias = Annotated[StaticRange | DynamicRange, ACTIVATIONS,
                                   BeforeValidator(_from_bits), WrapSerializer(_as_bits)]
