"""The bits of layers, and how mixed precision chooses them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, final

from pydantic import BeforeValidator, Field, model_validator

from edgewright.core import Settings, parse_quantity
from edgewright.errors import UsageError

BITS: Final = (8, 4, 3, 2, 1)
Bits = Literal[8, 4, 3, 2, 1]


def check_bits(bits: Any) -> Any:
    """Return ``bits`` if they are supported.

    Raises:
        UsageError: ``bits`` is not in `BITS`.
    """
    if bits not in BITS:
        raise UsageError(f"quantization to {bits!r} bits is not supported; weights and "
                         f"activations can have {', '.join(map(str, BITS))} bits")
    return bits


def _bytes(size: Any) -> Any:
    return size if size is None else parse_quantity(size, "size")


@final
class Precision(Settings):
    """The bits of one or more layers.

    Attributes:
        weights: Bits of the weights; None keeps weights and activations in floating point.
        activations: Bits of the layers' inputs; None does not quantize them for these layers.
    """

    weights: Bits | None = 8
    activations: Bits | None = 8

    def at_least(self, bits: int) -> Precision:
        """A copy with at least ``bits`` bits; what is in floating point stays in floating point."""
        return self.replace(**{
            name: max(own, bits) for name, own in (("weights", self.weights),
                                                   ("activations", self.activations))
            if own is not None})


@final
class MixedPrecision(Settings):
    """Choose the bits of each layer so that the predicted rise of the loss is smallest.

    At least one limit (``size``, ``bit_ops`` or ``latency``) must be given; all given limits hold.
    Use ``size`` if the file must be small; ``latency`` helps only to choose between 8 bits and
    floating point, because fewer bits are not faster on ONNX Runtime.

    Attributes:
        size: Maximum size of all weights, scales and biases together, such as "100 kB".
        bit_ops: Maximum number of bit operations (multiply-accumulates times bits of weights times
            bits of activations), as a fraction of those with 8 bits everywhere.
        latency: Maximum total latency of the layers, measured one by one on ONNX Runtime, as a
            fraction of their latency in floating point.
        weights: Candidate bits of the weights; None stands for floating point (of the activations
            too).
        activations: Candidate bits of the activations.
        method: How the rise of the loss is predicted. ``loss`` measures it with one layer quantized
            at a time. ``hessian`` uses the trace of the loss's Hessian times the squared error of
            the weights (for activations, the measured loss).
        samples: Number of training samples for calibration, and of other training samples on which
            the loss is measured.

    Raises:
        UsageError: No limit, no candidates, an unknown name, or a value out of range.

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
        """All distinct candidate precisions, in the order of ``weights`` and ``activations``."""
        return tuple(dict.fromkeys(
            Precision(weights=weights, activations=read) for weights in self.weights
            for read in ((None,) if weights is None else self.activations)))

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.size is None and self.bit_ops is None and self.latency is None:
            raise UsageError("mixed precision without a limit would give every layer the most "
                             "bits; set size='100 kB', bit_ops=0.5 or latency=0.5")
        if not any(self.weights) or not self.activations:
            raise UsageError(f"weights={self.weights!r} and activations={self.activations!r} leave "
                             "nothing to choose from; give at least one number of bits for both")
        return self
