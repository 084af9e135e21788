"""Exporters to the file formats of target runtimes; they never change the computed numbers."""

from edgewright.exporters._export import export, prove_export
from edgewright.exporters.edge import ExecuTorchEngine, to_executorch, to_litert
from edgewright.exporters.onnx import to_conditional_onnx, to_onnx, use_channels_last_features

__all__ = [
    "ExecuTorchEngine",
    "export",
    "prove_export",
    "to_conditional_onnx",
    "to_executorch",
    "to_litert",
    "to_onnx",
    "use_channels_last_features",
]
