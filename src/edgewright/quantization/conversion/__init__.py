"""From the simulation to stored integers."""

from edgewright.quantization.conversion._convert import convert
from edgewright.quantization.conversion._float_share import FloatShare, float_share

__all__ = [
    "FloatShare",
    "convert",
    "float_share",
]
