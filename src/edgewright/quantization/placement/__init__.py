"""Placement: which tensors of a program are quantized, and on which grids."""

from edgewright.quantization.placement._fused_ops import find_fused_ops, lacks_bias, stored_bias
from edgewright.quantization.placement._placement import place
from edgewright.quantization.placement._points import (
    ActivationPoint,
    Placement,
    ValueUse,
    WeightPoint,
)

__all__ = [
    "ActivationPoint",
    "Placement",
    "ValueUse",
    "WeightPoint",
    "find_fused_ops",
    "lacks_bias",
    "place",
    "stored_bias",
]
