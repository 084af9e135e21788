"""Where a program is quantized: points, and the grid of each."""

from edgewright.quantization.placement._placement import place
from edgewright.quantization.placement._points import ActivationPoint, Place, Placement, WeightPoint
from edgewright.quantization.placement._units import find_units, lacks_bias, stored_bias

__all__ = [
    "ActivationPoint",
    "Place",
    "Placement",
    "WeightPoint",
    "find_units",
    "lacks_bias",
    "place",
    "stored_bias",
]
