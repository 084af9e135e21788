"""Quantization simulated in floating point: calibrated, trained and inspected."""

from edgewright.quantization.simulation._binary import BinaryLevels
from edgewright.quantization.simulation._dynamic import grid_arguments, write_dynamic
from edgewright.quantization.simulation._fake_quantizer import FakeQuantizer
from edgewright.quantization.simulation._norm_freezing import (
    FreezeNorms,
    KeepGainsPositive,
    gains_of_layers,
    orient_norms,
)
from edgewright.quantization.simulation._simulate import (
    Insert,
    Simulation,
    insert_activations,
    simulate,
)

__all__ = [
    "BinaryLevels",
    "FakeQuantizer",
    "FreezeNorms",
    "Insert",
    "KeepGainsPositive",
    "Simulation",
    "gains_of_layers",
    "grid_arguments",
    "insert_activations",
    "orient_norms",
    "simulate",
    "write_dynamic",
]
