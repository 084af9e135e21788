"""How quantization is configured, and the scheme that a config resolves to."""

from edgewright.quantization.config._config import Quantization
from edgewright.quantization.config._resolve import resolve

__all__ = ["Quantization", "resolve"]
