"""Quantisation, as quantise and dequantise nodes in the program."""

from edgewright.quantization._config import Precision, Quantization
from edgewright.quantization._grid import Grid
from edgewright.quantization._placement import Placement, place
from edgewright.quantization._precision import MixedPrecision
from edgewright.quantization._quantize import quantize

__all__ = ["Grid", "MixedPrecision", "Placement", "Precision", "Quantization", "place", "quantize"]
