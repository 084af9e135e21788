"""How the activations are quantized: on ranges that are fixed, or found while running."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, final

from pydantic import BeforeValidator, SerializerFunctionWrapHandler, WrapSerializer

from edgewright.core import Settings
from edgewright.quantization.scheme._named import Named, Positional
from edgewright.quantization.scheme._precision import Bits, check_bits

ActivationMode = Literal["static", "dynamic", "weight_only"]


@final
class StaticRange(Positional):
    """Activations on ranges that calibration fixes; the fastest, and what all targets take.

    Attributes:
        bits: Of the activations: 8, 4, 3, 2 or 1.
        symmetric: The zero point is in the middle; else it moves with the range.

    Raises:
        UsageError: Bits that there are not.

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
        """Where ranges come from."""
        return "static"


@final
class DynamicRange(Settings):
    """8-bit activations on a range that is taken from each input while running.

    It needs no calibration data, and costs time where the range is found; for networks whose
    time goes into large linear layers.

    Example:
        >>> DynamicRange()
        DynamicRange()
    """

    @property
    def mode(self) -> ActivationMode:
        """Where ranges come from."""
        return "dynamic"

    @property
    def bits(self) -> Bits:
        """What runtimes quantize to while running."""
        return 8

    @property
    def symmetric(self) -> bool:
        """Runtimes choose a zero point with the range."""
        return False


def _from_bits(value: Any) -> Any:
    return StaticRange(check_bits(value)) if isinstance(value, int) else value


def _as_bits(value: Any, written: SerializerFunctionWrapHandler) -> Any:
    if isinstance(value, StaticRange) and not value.symmetric:
        return value.bits
    return written(value)


ACTIVATIONS: Final = Named(static=StaticRange, dynamic=DynamicRange)
Activations: TypeAlias = Annotated[StaticRange | DynamicRange, ACTIVATIONS,
                                   BeforeValidator(_from_bits), WrapSerializer(_as_bits)]
