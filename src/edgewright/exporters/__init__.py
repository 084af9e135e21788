"""One file a target; an exporter translates and never changes numbers."""

from edgewright.exporters._export import export, prove_export
from edgewright.exporters._onnx import to_onnx

__all__ = ["export", "prove_export", "to_onnx"]
