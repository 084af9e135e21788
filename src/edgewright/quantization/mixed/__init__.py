"""Mixed precision: the bits of each layer."""

from edgewright.quantization.mixed._mixed import choose_precisions

__all__ = [
    "choose_precisions",
]
