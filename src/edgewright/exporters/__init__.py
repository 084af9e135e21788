"""One file a target; an exporter translates and never changes numbers."""

from edgewright.exporters._conditional import to_conditional_onnx
from edgewright.exporters._executorch import to_executorch
from edgewright.exporters._executorch_engine import ExecuTorchEngine
from edgewright.exporters._export import export, prove_export
from edgewright.exporters._features_last import features_last
from edgewright.exporters._litert import to_litert
from edgewright.exporters._onnx import to_onnx

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
