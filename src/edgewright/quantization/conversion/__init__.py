"""Conversion of a simulation into a program with stored integers."""

from edgewright.quantization.conversion._convert import convert
from edgewright.quantization.conversion._float_share import FloatShare, measure_float_share

__all__ = [
    "FloatShare",
    "convert",
    "measure_float_share",
]
