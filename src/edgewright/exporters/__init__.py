"""One file a target; an exporter translates and never changes numbers."""

from edgewright.exporters._export import export, prove_export
from edgewright.exporters.edge import ExecuTorchEngine, to_executorch, to_litert
from edgewright.exporters.onnx import features_last, to_conditional_onnx, to_onnx

__all__ = [
    "ExecuTorchEngine",
    "export",
    "features_last",
    "prove_export",
    "to_conditional_onnx",
    "to_executorch",
    "to_litert",
    "to_onnx",
]
