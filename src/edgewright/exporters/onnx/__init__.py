"""Export to ONNX."""

from edgewright.exporters.onnx._channels_last_features import use_channels_last_features
from edgewright.exporters.onnx._conditional import to_conditional_onnx
from edgewright.exporters.onnx._conditional_engine import EveryExitEngine
from edgewright.exporters.onnx._onnx import to_onnx

__all__ = [
    "EveryExitEngine",
    "to_conditional_onnx",
    "to_onnx",
    "use_channels_last_features",
]
