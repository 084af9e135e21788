"""Which bits layers may have, and how the bits of each are chosen."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, final

from pydantic import BeforeValidator, Field, model_validator

from edgewright.core import Settings, parse_quantity
from edgewright.errors import UsageError

BITS: Final = (8, 4, 3, 2, 1)
Bits = Literal[8, 4, 3, 2, 1]


def check_bits(bits: Any) -> Any:
    """Refuse bits that no grid has, by name.

    Raises:
        UsageError: They are not among `BITS`.
    """
    if bits not in BITS:
        raise UsageError(f"quantization to {bits!r} bits is not supported; weights and "
                         f"activations can have {', '.join(map(str, BITS))} bits")
    return bits


def _bytes(size: Any) -> Any:
    return size if size is None else parse_quantity(size, "size")


@final
class Precision(Settings):
    """The bits of some layers.

    Attributes:
        weights: Bits of the weights; None leaves them in floating point, and the activations too.
        activations: Bits of what the layers read; None quantizes it for others alone.
    """

    weights: Bits | None = 8
    activations: Bits | None = 8

    def at_least(self, bits: int) -> Precision:
        """This one with no fewer than ``bits``; what is in floating point stays so."""
        return self.replace(**{
            name: max(own, bits) for name, own in (("weights", self.weights),
                                                   ("activations", self.activations))
            if own is not None})


@final
class MixedPrecision(Settings):
    """Bits chosen layer by layer: the least predicted rise of the loss under every limit.

    Attributes:
        size: The most bytes of all weights, scales and biases together: "100 kB".
        bit_ops: The most bit operations (multiply-accumulates times bits of weights times bits of
            activations), as a share of those with 8 bits everywhere.
        latency: The longest that the layers take, measured one by one on ONNX Runtime, as a share
            of what they take in floating point. Fewer than 8 bits are no faster there.
        weights: Bits to choose from; None is floating point, of the activations too.
        activations: Bits to choose from.
        method: What predicts the rise: ``hessian``, the trace of the loss's Hessian times the
            squared error of the weights (of activations, the measured loss), or ``loss``, measured
            with one layer quantised at a time.
        samples: Training samples to take ranges from, and as many others to measure the loss on.

    Raises:
        UsageError: No limit, nothing to choose from, an unknown name or a value out of its range.

    Example:
        >>> MixedPrecision(size="100 kB", weights=(8, 4)).size
        100000.0
    """

    size: Annotated[float | None, BeforeValidator(_bytes)] = None
    bit_ops: Annotated[float, Field(gt=0)] | None = None
    latency: Annotated[float, Field(gt=0)] | None = None
    weights: tuple[Bits | None, ...] = (8, 4, 3, 2)
    activations: tuple[Bits, ...] = (8,)
    method: Literal["hessian", "loss"] = "loss"
    samples: int = Field(default=512, ge=1)

    def candidates(self) -> tuple[Precision, ...]:
        """What a layer may have, each once, in the order of ``weights`` and ``activations``."""
        return tuple(dict.fromkeys(
            Precision(weights=weights, activations=read) for weights in self.weights
            for read in ((None,) if weights is None else self.activations)))

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.size is None and self.bit_ops is None and self.latency is None:
            raise UsageError("mixed precision without a limit would leave every layer its most "
                             "bits; give size='100 kB', bit_ops=0.5 or latency=0.5")
        if not any(self.weights) or not self.activations:
            raise UsageError(f"weights={self.weights!r} and activations={self.activations!r} leave "
                             "nothing to choose from; give at least one number of bits for each")
        return self
