"""Quantisation, as quantise and dequantise nodes in the program."""

from edgewright.quantize._config import Quantization
from edgewright.quantize._quantize import quantize

__all__ = ["Quantization", "quantize"]
