"""The quantization config, and its resolution into a scheme."""

from edgewright.quantization.config._config import Quantization
from edgewright.quantization.config._resolve import resolve

__all__ = ["Quantization", "resolve"]
