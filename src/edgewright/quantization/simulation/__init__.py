"""Simulated quantization: fake quantizers in floating point, for calibration and training."""

from edgewright.quantization.simulation._binary import BinaryLevels
from edgewright.quantization.simulation._dynamic import grid_arguments, insert_dynamic_quantization
from edgewright.quantization.simulation._fake_quantizer import FakeQuantizer
from edgewright.quantization.simulation._norm_freezing import (
    FreezeNorms,
    KeepGainsPositive,
    find_norm_gains,
    make_gains_positive,
)
from edgewright.quantization.simulation._simulate import (
    InsertFunction,
    QuantizationSimulation,
    insert_activations,
    simulate_quantization,
)

__all__ = [
    "BinaryLevels",
    "FakeQuantizer",
    "FreezeNorms",
    "InsertFunction",
    "KeepGainsPositive",
    "QuantizationSimulation",
    "find_norm_gains",
    "grid_arguments",
    "insert_activations",
    "insert_dynamic_quantization",
    "make_gains_positive",
    "simulate_quantization",
]
