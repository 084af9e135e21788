"""One engine per runtime. No torch."""

from edgewright.runtime.engines._compiled import CompiledEngine
from edgewright.runtime.engines._engine import REFUSALS, Arrays, Engine, FileEngine, run_one_by_one
from edgewright.runtime.engines._failures import load_failure
from edgewright.runtime.engines._litert import LiteRtEngine
from edgewright.runtime.engines._onnxruntime import OnnxEngine
from edgewright.runtime.engines._openvino import OpenVinoEngine

__all__ = [
    "REFUSALS",
    "Arrays",
    "CompiledEngine",
    "Engine",
    "FileEngine",
    "LiteRtEngine",
    "OnnxEngine",
    "OpenVinoEngine",
    "load_failure",
    "run_one_by_one",
]
