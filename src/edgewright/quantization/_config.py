"""How a program is quantised."""

from __future__ import annotations

from typing import Any, Literal, final

from pydantic import Field, field_validator

from edgewright.errors import UsageError
from edgewright.training import Settings, Training


@final
class Quantization(Settings):
    """Integer quantisation: int8 weights per output channel, uint8 activations per tensor.

    Attributes:
        weights: Bits of the weights.
        activations: Bits of the activations.
        method: ``ptq`` calibrates and takes no gradient step; ``qat`` trains with fake
            quantisers, after a calibration to start from.
        calibration_samples: Training samples the ranges are taken from.
        training: The schedule of ``qat``.

    Raises:
        UsageError: Bits that no kernel of the runtime computes in, an unknown name, or a value
            out of its range.

    Example:
        >>> Quantization(method="ptq").weights
        8
    """

    weights: int = 8
    activations: int = 8
    method: Literal["ptq", "qat"] = "ptq"
    calibration_samples: int = Field(default=1024, ge=1)
    training: Training = Training(epochs=2, lr=0.001, weight_decay=1e-5, clip_norm=1.0)

    @field_validator("weights", "activations", mode="before")
    @classmethod
    def _known_bits(cls, bits: Any) -> Any:
        if bits != 8:
            raise UsageError(f"quantisation to {bits!r} bits is not supported; weights and "
                             "activations can have 8 bits")
        return bits
