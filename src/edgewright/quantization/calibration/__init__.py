"""Calibration: ranges of values and weights, from data that stream by, or from no data at all."""

from edgewright.quantization.calibration._data_free import synthetic_inputs
from edgewright.quantization.calibration._observer import (make_observer)
from edgewright.quantization._observer import (Observer)
from edgewright.quantization.calibration._stream import calibrate, fitting, training_inputs

__all__ = [
    "Observer",
    "calibrate",
    "fitting",
    "make_observer",
    "synthetic_inputs",
    "training_inputs",
]
