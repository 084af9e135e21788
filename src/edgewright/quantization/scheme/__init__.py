"""What a user asks for, and what each target can store and run."""

from edgewright.quantization.scheme._config import Operators, Precision, Quantization, Target
from edgewright.quantization.scheme._grid import Grid, Role
from edgewright.quantization.scheme._precision import MixedPrecision
from edgewright.quantization.scheme._targets import (
    RULES,
    PoolRounding,
    activation_grid,
    check_scheme,
    weight_grid,
)

__all__ = [
    "RULES",
    "Grid",
    "MixedPrecision",
    "Operators",
    "PoolRounding",
    "Precision",
    "Quantization",
    "Role",
    "Target",
    "activation_grid",
    "check_scheme",
    "weight_grid",
]
