"""How exactly ONNX Runtime's DynamicQuantizeLSTM can be simulated, and how long it takes.

A layer over 49 steps of 32 values, batch size 1, one thread; both files run in turn.

Example:
    python -m benchmarks.quantization.dynamic_lstm
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from benchmarks.common.paths import RESULTS
from benchmarks.common.result_rows import keep, provenance
from edgewright.exporters import to_onnx
from edgewright.program import Program

INPUTS: Final = 32
STEPS: Final = 49
WIDTHS: Final = (64, 256)
RUNS: Final = 200
SEED: Final = 0
_LEVELS: Final = 255


class First(nn.Module):
    """The outputs of an LSTM."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cells = nn.LSTM(INPUTS, width, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, steps, inputs) to (N, steps, width)."""
        outputs: torch.Tensor = self.cells(x)[0]
        return outputs


def main() -> None:
    """Measure both widths and write the rows."""
    argparse.ArgumentParser(description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for width in WIDTHS:
        torch.manual_seed(SEED)
        program = Program.capture(First(width), torch.randn(2, STEPS, INPUTS))
        x = torch.randn(1, STEPS, INPUTS).numpy()
        with tempfile.TemporaryDirectory() as folder:
            row = compare(Path(folder), to_onnx(program), x)
        keep(RESULTS / "dynamic_lstm.json", str(width), {
            **provenance(("torch", "onnxruntime", "numpy"), seed=SEED), **row})


def compare(folder: Path, model: bytes, x: NDArray[np.float32]) -> dict[str, Any]:
    """Errors of the integer layer and of its simulation, and medians of the times of both files."""
    folded, quantized = folder / "float.onnx", folder / "quantized.onnx"
    _session(model, folded)
    quantize_dynamic(folded, quantized, per_channel=True, weight_type=QuantType.QInt8)
    sessions = [_session(path.read_bytes()) for path in (folded, quantized)]
    expected, found = (_run(session, x) for session in sessions)
    times: list[list[float]] = [[], []]
    for _ in range(RUNS):
        for taken, session in zip(times, sessions, strict=True):
            since = time.perf_counter()
            _run(session, x)
            taken.append(1e3 * (time.perf_counter() - since))
    float_ms, integer_ms = (float(np.median(taken)) for taken in times)
    return {"error_of_integers": float(np.abs(found - expected).max()),
            "error_of_simulation": float(np.abs(simulate(quantized, x[0]) - found[0]).max()),
            "float_ms": float_ms, "integer_ms": integer_ms, "ratio": integer_ms / float_ms}


def simulate(path: Path, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the integer layer computes for one sample (steps, inputs): (steps, width)."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    node = next(node for node in graph.node if node.op_type == "DynamicQuantizeLSTM")
    weight, hidden_weight, biases = (constants[name][0] for name in node.input[1:4])
    scale, zero, hidden_scale, hidden_zero = (constants[name][0] for name in node.input[8:12])
    integers, step = _quantize(x)
    inputs = integers @ (weight.astype(np.float64) - zero) * step * scale
    inputs += biases.reshape(2, -1).sum(0)
    hidden = memory = np.zeros(len(hidden_weight), np.float32)
    results = []
    for entry in inputs:
        integers, step = _quantize(hidden)
        gates = entry + integers @ (hidden_weight.astype(np.float64) - hidden_zero) * (
            step * hidden_scale)
        let_in, let_out, keep_part, new = np.split(gates, 4)
        memory = _sigmoid(keep_part) * memory + _sigmoid(let_in) * np.tanh(new)
        hidden = (_sigmoid(let_out) * np.tanh(memory)).astype(np.float32)
        results.append(hidden)
    return np.array(results, np.float64)


def _quantize(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], np.float32]:
    """Integers around their zero point, and the scale, from the range of all values and 0."""
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    scale = np.float32((high - low) / _LEVELS) or np.float32(1)
    zero = np.clip(np.round(-low / scale), 0, _LEVELS)
    integers: NDArray[np.float64] = np.clip(np.round(x / scale) + zero, 0, _LEVELS) - zero
    return integers.astype(np.float64), scale


def _sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = 1 / (1 + np.exp(-x))
    return result


def _session(model: bytes, optimized: Path | None = None) -> ort.InferenceSession:
    """A session with one thread; with a path, it also writes the file with constants folded."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if optimized is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, x: NDArray[np.float32]) -> NDArray[np.float32]:
    outputs: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return outputs


if __name__ == "__main__":
    main()
