"""Running a bundle on the device, with early exits and adaptation. No torch."""

from edgewright.runtime._draw import draw
from edgewright.runtime._drift import Drift, DriftMonitor
from edgewright.runtime._evaluate import Evaluation, OutputMetric, TopClassAccuracy, evaluate
from edgewright.runtime._inputs import read_image, read_input
from edgewright.runtime._percentiles import Percentiles
from edgewright.runtime._pictures import is_picture
from edgewright.runtime._prediction import Prediction
from edgewright.runtime._recordings import is_recording, read_recording
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
from edgewright.runtime.decoding import (
    Answer,
    AnswerSet,
    Box,
    ClassPrediction,
    ClassRanking,
    Decoded,
    Detections,
    Mask,
    Quantity,
    Vector,
)
from edgewright.runtime.early_exit import Streaks, confidence, exit_scores, gate_inputs
from edgewright.runtime.engines import (
    CompiledEngine,
    Engine,
    LiteRtEngine,
    OnnxEngine,
    OpenVinoEngine,
)

__all__ = [
    "Answer",
    "AnswerSet",
    "BatterySensor",
    "Box",
    "CallableSensor",
    "Change",
    "ClassPrediction",
    "ClassRanking",
    "CompiledEngine",
    "Controller",
    "Decoded",
    "Detections",
    "DevicePressure",
    "Drift",
    "DriftMonitor",
    "Engine",
    "Evaluation",
    "FileSensor",
    "LiteRtEngine",
    "Mask",
    "OnnxEngine",
    "OpenVinoEngine",
    "OutputMetric",
    "Percentiles",
    "Power",
    "Prediction",
    "Quantity",
    "Sensor",
    "SensorWarning",
    "Session",
    "Stats",
    "Streaks",
    "Stream",
    "ThermalSensor",
    "TopClassAccuracy",
    "Vector",
    "confidence",
    "draw",
    "evaluate",
    "exit_scores",
    "gate_inputs",
    "is_picture",
    "is_recording",
    "load",
    "read_image",
    "read_input",
    "read_recording",
]
