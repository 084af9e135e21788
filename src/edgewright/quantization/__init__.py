"""Quantization, as quantize and dequantize nodes in the program."""

from edgewright.quantization._quantize import quantize
from edgewright.quantization.conversion import FloatShare, float_share
from edgewright.quantization.placement import Placement, place
from edgewright.quantization.scheme import (
    Grid,
    MixedPrecision,
    Precision,
    Quantization,
    check_scheme,
)

__all__ = [
    "FloatShare",
    "Grid",
    "MixedPrecision",
    "Placement",
    "Precision",
    "Quantization",
    "check_scheme",
    "float_share",
    "place",
    "quantize",
]
