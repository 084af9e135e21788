"""Calibration: ranges of values and weights, from data that stream by, or from no data at all."""

from edgewright.quantization.calibration._calibrate import calibrate_activations, calibrate_weights
from edgewright.quantization.calibration._data_free import synthetic_inputs
from edgewright.quantization.calibration._estimators import MSE, Entropy, MinMax, Percentile
from edgewright.quantization.calibration._observer import make_observer
from edgewright.quantization.calibration._stream import calibrate, fitting, training_inputs

__all__ = [
    "MSE",
    "Entropy",
    "MinMax",
    "Percentile",
    "calibrate",
    "calibrate_activations",
    "calibrate_weights",
    "fitting",
    "make_observer",
    "synthetic_inputs",
    "training_inputs",
]
