"""Mixed precision: choose the bits of each layer."""

from edgewright.quantization.mixed._choose_precisions import choose_precisions

__all__ = [
    "choose_precisions",
]
