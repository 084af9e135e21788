"""Quantisation, as quantise and dequantise nodes in the program."""

from edgewright.quantization._config import Quantization
from edgewright.quantization._quantize import quantize

__all__ = ["Quantization", "quantize"]
