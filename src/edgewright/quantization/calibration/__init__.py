"""Calibration: find the ranges of weights and activations, with or without data."""

from edgewright.quantization.calibration._calibrate import (
    calibrate_activation_ranges,
    calibrate_weight_ranges,
)
from edgewright.quantization.calibration._calibrate_quantizers import (
    calibrate_quantizers,
    draw_training_inputs,
    validate_batches,
)
from edgewright.quantization.calibration._data_free import synthesize_inputs
from edgewright.quantization.calibration._estimators import MSE, Entropy, MinMax, Percentile
from edgewright.quantization.calibration._observer import create_observer

__all__ = [
    "MSE",
    "Entropy",
    "MinMax",
    "Percentile",
    "calibrate_activation_ranges",
    "calibrate_quantizers",
    "calibrate_weight_ranges",
    "create_observer",
    "draw_training_inputs",
    "synthesize_inputs",
    "validate_batches",
]
