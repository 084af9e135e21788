"""Measuring the latency of layers and programs on a runtime."""

from edgewright.timing._layer_timing import measure_layers
from edgewright.timing._precision_timing import (
    PrecisionTimer,
    PrecisionTimes,
    measure_precisions,
    time_in_integers,
)
from edgewright.timing._program_timing import measure_layer_latencies

__all__ = [
    "PrecisionTimer",
    "PrecisionTimes",
    "measure_layer_latencies",
    "measure_layers",
    "measure_precisions",
    "time_in_integers",
]
