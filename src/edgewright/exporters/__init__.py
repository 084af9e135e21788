"""Exporters to the file formats of target runtimes; they never change the computed numbers."""

from edgewright.exporters._export import ExportTarget, export, prove_export
from edgewright.exporters.edge import ExecuTorchEngine, to_executorch, to_litert
from edgewright.exporters.integers import make_exit_rules, to_integer_network
from edgewright.exporters.onnx import to_conditional_onnx, to_onnx, use_channels_last_features

__all__ = [
    "ExecuTorchEngine",
    "ExportTarget",
    "export",
    "make_exit_rules",
    "prove_export",
    "to_conditional_onnx",
    "to_executorch",
    "to_integer_network",
    "to_litert",
    "to_onnx",
    "use_channels_last_features",
]
