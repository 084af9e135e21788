"""Running a bundle on the device, with early exits and adaptation. No torch."""

from edgewright.runtime._drift import Drift, DriftMonitor
from edgewright.runtime._evaluate import Evaluation, OutputMetric, TopClassAccuracy, evaluate
from edgewright.runtime._inputs import read_image, read_input
from edgewright.runtime._percentiles import Percentiles
from edgewright.runtime._prediction import Prediction
from edgewright.runtime._session import Session, load
from edgewright.runtime._stats import Stats
from edgewright.runtime._stream import Stream
from edgewright.runtime.adaptation import (
    BatterySensor,
    CallableSensor,
    Change,
    Controller,
    DevicePressure,
    FileSensor,
    Power,
    Sensor,
    SensorWarning,
    ThermalSensor,
)
from edgewright.runtime.early_exit import Streaks, confidence, exit_scores, gate_inputs
from edgewright.runtime.engines import Engine, LiteRtEngine, OnnxEngine, OpenVinoEngine

__all__ = [
    "BatterySensor",
    "CallableSensor",
    "Change",
    "Controller",
    "DevicePressure",
    "Drift",
    "DriftMonitor",
    "Engine",
    "Evaluation",
    "FileSensor",
    "LiteRtEngine",
    "OnnxEngine",
    "OpenVinoEngine",
    "OutputMetric",
    "Percentiles",
    "Power",
    "Prediction",

    "Sensor",
    "SensorWarning",
    "Session",
    "Stats",
    "Streaks",
    "Stream",
    "ThermalSensor",
    "TopClassAccuracy",
    "confidence",
    "evaluate",
    "exit_scores",
    "gate_inputs",
    "load",
    "read_image",
    "read_input",
]
