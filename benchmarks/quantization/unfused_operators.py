"""Which operators ONNX Runtime fuses a file's into, and the file run with none of them fused."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

INTEGER_LAYERS: Final = frozenset({
    "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QGemm", "MatMulNBits", "QAttention", "DynamicQuantizeLSTM"})
FLOAT_LAYERS: Final = frozenset({
    "Conv", "FusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "LSTM",
    "GRU", "RNN", "Attention", "MultiHeadAttention"})
_ERRORS_ONLY: Final = 3


def count_operators(model: bytes) -> dict[str, int]:
    """How often each operator occurs in the graph that ONNX Runtime executes, branches included.

    Example:
        >>> import onnx.parser
        >>> model = onnx.parser.parse_model('''
        ...     <ir_version: 8, opset_import: ["": 17]>
        ...     relu (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }''')
        >>> count_operators(model.SerializeToString())
        {'Relu': 1}
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder, "optimized.onnx")
        _session(model, "ORT_ENABLE_ALL", optimized)
        graph = onnx.load(optimized).graph
    found: Counter[str] = Counter()
    pending = [graph]
    while pending:
        for node in pending.pop().node:
            found[node.op_type] += 1
            pending += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return dict(sorted(found.items()))


def fused_share(operators: Mapping[str, int]) -> float | None:
    """Share of the layers that run on integers; None where there is no layer.

    Example:
        >>> fused_share({"QLinearConv": 3, "Gemm": 1, "QLinearAdd": 2})
        0.75
    """
    integer, in_float = (sum(operators.get(name, 0) for name in names)
                         for names in (INTEGER_LAYERS, FLOAT_LAYERS))
    return integer / (integer + in_float) if integer + in_float else None


class UnfusedEngine:
    """An ONNX file run as it is written: a quantized layer rounds its operands, and sums in float.

    Args:
        model: The bytes of an ``.onnx`` file.
    """

    def __init__(self, model: bytes) -> None:
        self._session = _session(model, "ORT_DISABLE_ALL")
        self._names = [value.name for value in self._session.get_inputs()]

    def run(self, inputs: tuple[NDArray[Any], ...]) -> tuple[NDArray[np.float32], ...]:
        """Compute all outputs of the model, from its inputs in their order."""
        return tuple(self._session.run(None, dict(zip(self._names, inputs, strict=True))))


def _session(model: bytes, level: str, optimized: Path | None = None) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort  # noqa: PLC0415 - it reads the variable above

    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
