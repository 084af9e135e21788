"""Export to ExecuTorch and LiteRT."""

from edgewright.exporters.edge._executorch import to_executorch
from edgewright.exporters.edge._executorch_engine import ExecuTorchEngine
from edgewright.exporters.edge._litert import to_litert

__all__ = [
    "ExecuTorchEngine",
    "to_executorch",
    "to_litert",
]
