"""Quantization of programs, represented by quantize and dequantize nodes."""

from edgewright.quantization._quantize import quantize
from edgewright.quantization.calibration import MSE, Entropy, MinMax, Percentile
from edgewright.quantization.config import Quantization, resolve
from edgewright.quantization.conversion import FloatShare, measure_float_share
from edgewright.quantization.mixed import measure_sensitivities
from edgewright.quantization.placement import Placement, place
from edgewright.quantization.scheme import (
    BRECQ,
    PTQ,
    QAT,
    AdaRound,
    DynamicRange,
    Grid,
    MixedPrecision,
    Nearest,
    Observer,
    PerChannel,
    PerGroup,
    PerTensor,
    Precision,
    RangeEstimator,
    Scheme,
    StaticRange,
    TargetRules,
)

__all__ = [
    "BRECQ",
    "MSE",
    "PTQ",
    "QAT",
    "AdaRound",
    "DynamicRange",
    "Entropy",
    "FloatShare",
    "Grid",
    "MinMax",
    "MixedPrecision",
    "Nearest",
    "Observer",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "Percentile",
    "Placement",
    "Precision",
    "Quantization",
    "RangeEstimator",
    "Scheme",
    "StaticRange",
    "TargetRules",
    "measure_float_share",
    "measure_sensitivities",
    "place",
    "quantize",
    "resolve",
]
