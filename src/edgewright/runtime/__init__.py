"""Running a bundle on the device: staged early exit over an engine. No torch."""

from edgewright.runtime._engine import Engine
from edgewright.runtime._evaluate import Evaluation, evaluate
from edgewright.runtime._inputs import read_image, read_input
from edgewright.runtime._litert import LiteRtEngine
from edgewright.runtime._onnxruntime import OnnxEngine
from edgewright.runtime._openvino import OpenVinoEngine
from edgewright.runtime._session import Prediction, Session, confidence, load
from edgewright.runtime._stats import Stats

__all__ = [
    "Engine",
    "Evaluation",
    "LiteRtEngine",
    "OnnxEngine",
    "OpenVinoEngine",
    "Prediction",
    "Session",
    "Stats",
    "confidence",
    "evaluate",
    "load",
    "read_image",
    "read_input",
]
