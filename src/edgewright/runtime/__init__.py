"""Running a bundle on the device: staged early exit over an engine. No torch."""

from edgewright.runtime._controller import Change, Controller, Power
from edgewright.runtime._drift import Drift, DriftMonitor
from edgewright.runtime._engine import Engine
from edgewright.runtime._evaluate import Evaluation, evaluate
from edgewright.runtime._inputs import read_image, read_input
from edgewright.runtime._litert import LiteRtEngine
from edgewright.runtime._onnxruntime import OnnxEngine
from edgewright.runtime._openvino import OpenVinoEngine
from edgewright.runtime._percentiles import Percentiles
from edgewright.runtime._policies import Streaks, confidence, exit_scores, gate_inputs
from edgewright.runtime._prediction import Prediction
from edgewright.runtime._senses import Senses, SensorWarning
from edgewright.runtime._sensors import (
    BatterySensor,
    CallableSensor,
    FileSensor,
    Sensor,
    ThermalSensor,
)
from edgewright.runtime._session import Session, load
from edgewright.runtime._stats import Stats

__all__ = [
    "BatterySensor",
    "CallableSensor",
    "Change",
    "Controller",
    "Drift",
    "DriftMonitor",
    "Engine",
    "Evaluation",
    "FileSensor",
    "LiteRtEngine",
    "OnnxEngine",
    "OpenVinoEngine",
    "Percentiles",
    "Power",
    "Prediction",
    "Senses",
    "Sensor",
    "SensorWarning",
    "Session",
    "Stats",
    "Streaks",
    "ThermalSensor",
    "confidence",
    "evaluate",
    "exit_scores",
    "gate_inputs",
    "load",
    "read_image",
    "read_input",
]
