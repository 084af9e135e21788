"""Mixed precision: choose the bits of each layer."""

from edgewright.quantization.mixed._choose_precisions import choose_precisions
from edgewright.quantization.mixed._sensitivity import measure_sensitivities

__all__ = [
    "choose_precisions",
    "measure_sensitivities",
]
