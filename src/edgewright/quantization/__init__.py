"""Quantisation, as quantise and dequantise nodes in the program."""

from edgewright.quantization._config import Precision, Quantization
from edgewright.quantization._float_share import FloatShare, float_share
from edgewright.quantization._grid import Grid
from edgewright.quantization._placement import place
from edgewright.quantization._points import Placement
from edgewright.quantization._precision import MixedPrecision
from edgewright.quantization._quantize import quantize
from edgewright.quantization._targets import check_scheme

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
