"""To ONNX."""

from edgewright.exporters.onnx._conditional import to_conditional_onnx
from edgewright.exporters.onnx._conditional_engine import EveryExitEngine
from edgewright.exporters.onnx._features_last import features_last
from edgewright.exporters.onnx._onnx import to_onnx

__all__ = [
    "EveryExitEngine",
    "features_last",
    "to_conditional_onnx",
    "to_onnx",
]
