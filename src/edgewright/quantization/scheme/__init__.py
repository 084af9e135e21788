"""Value types of quantization: grids, precisions, methods, targets and the resolved scheme."""

from edgewright.quantization.scheme._activations import (
    ActivationMode,
    Activations,
    DynamicRange,
    StaticRange,
)
from edgewright.quantization.scheme._granularity import (
    GRANULARITIES,
    Granularity,
    PerChannel,
    PerGroup,
    PerTensor,
)
from edgewright.quantization.scheme._grid import Grid, Role
from edgewright.quantization.scheme._method import (
    BRECQ,
    METHODS,
    PTQ,
    QAT,
    AdaRound,
    Method,
    Nearest,
)
from edgewright.quantization.scheme._precision import Bits, MixedPrecision, Precision, check_bits
from edgewright.quantization.scheme._range_estimator import Observer, RangeEstimator
from edgewright.quantization.scheme._scheme import Operators, Scheme
from edgewright.quantization.scheme._targets import (
    TARGETS,
    DeploymentTarget,
    PoolRounding,
    TargetRules,
)

__all__ = [
    "BRECQ",
    "GRANULARITIES",
    "METHODS",
    "PTQ",
    "QAT",
    "TARGETS",
    "ActivationMode",
    "Activations",
    "AdaRound",
    "Bits",
    "DeploymentTarget",
    "DynamicRange",
    "Granularity",
    "Grid",
    "Method",
    "MixedPrecision",
    "Nearest",
    "Observer",
    "Operators",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "PoolRounding",
    "Precision",
    "RangeEstimator",
    "Role",
    "Scheme",
    "StaticRange",
    "TargetRules",
    "check_bits",
]
