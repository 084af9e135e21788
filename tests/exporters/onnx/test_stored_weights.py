"""Stored integer weights: file size, results, and the operators that the runtime runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor, nn

from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.quantization import PerGroup, Quantization, quantize
from edgewright.runtime import OnnxEngine
from edgewright.task import Task


class Words(nn.Module):
    """Two recurrent layers each way over an embedding."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(200, 32)
        self.cells = kind(32, 32, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(64, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.cells(self.table(ids))[0].mean(1))


class Tied(nn.Module):
    """A language model in small: the table of the words is the last layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(200, 32), nn.LayerNorm(32)

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.norm(self.table(ids)), self.table.weight)


class Readers(nn.Module):
    """Functions of a weight each and of one input."""

    def __init__(self, readers: Any) -> None:
        super().__init__()
        self.functions = [function for function, _ in readers]
        self.weights = nn.ParameterList(torch.randn(shape) for _, shape in readers)

    def forward(self, x: Tensor) -> Any:
        return [function(weight, x)
                for function, weight in zip(self.functions, self.weights, strict=True)]


IDS = torch.arange(100).reshape(10, 10)
TASK = Task((IDS.repeat(4, 1), torch.arange(40) % 3), test=(IDS, torch.arange(10) % 3))


def stored(model: bytes) -> Any:
    """Bytes of the constants, by type."""
    found: Counter[str] = Counter()
    for tensor in onnx.load_from_string(model).graph.initializer:
        found[TensorProto.DataType.Name(tensor.data_type)] += len(tensor.raw_data)
    return found


def run(model: bytes, *inputs: Any) -> Any:
    return torch.from_numpy(OnnxEngine(model).run(tuple(x.numpy() for x in inputs))[0])


def optimized(model: bytes, path: Path) -> Any:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(path).graph


@pytest.mark.parametrize(("kind", "activations"), [
    (nn.GRU, 8), (nn.GRU, "dynamic"), (nn.GRU, None), (nn.LSTM, 8), (nn.RNN, None)])
def test_recurrent_networks_shrink_to_a_third_in_every_mode(kind: Any,
                                                            activations: int | str | None) -> None:
    torch.manual_seed(0)
    program = Program.capture(Words(kind), IDS[:2])
    quantized = quantize(program, TASK, Quantization(activations=activations))
    model = to_onnx(quantized)
    assert len(model) < 0.43 * program.costs().weight_bytes
    nodes = Counter(node.op_type for node in onnx.load_from_string(model).graph.node)
    assert nodes[kind.__name__] == 2
    torch.testing.assert_close(run(model, IDS), quantized.run(IDS), rtol=1e-4, atol=1e-5)


def test_runtime_keeps_tables_as_integers_and_folds_the_rest(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = to_onnx(quantize(Program.capture(Words(nn.GRU), IDS[:2]), TASK))
    graph = optimized(model, tmp_path / "o.onnx")
    shapes = {(tuple(tensor.dims), tensor.data_type) for tensor in graph.initializer}
    assert ((200, 32), TensorProto.INT8) in shapes
    assert ((200, 32), TensorProto.FLOAT) not in shapes
    gru = [node for node in graph.node if node.op_type == "GRU"]
    names = {tensor.name for tensor in graph.initializer}
    assert all(name in names for node in gru for name in node.input[1:3])


@pytest.mark.parametrize(("activations", "bits"), [
    (8, 8), ("dynamic", 8), (None, 8), (None, 4)])
def test_tied_tables_are_stored_once(activations: int | str | None, bits: int) -> None:
    torch.manual_seed(0)
    program = Program.capture(Tied(), IDS[:2])
    quantized = quantize(program, TASK, Quantization(activations=activations, weights=bits, first_last_bits=None))
    model = to_onnx(quantized)
    assert stored(model)["INT8"] < 200 * 32 + 1000
    assert stored(model)["INT4"] == 0
    torch.testing.assert_close(run(model, IDS), quantized.run(IDS), rtol=1e-3, atol=1e-3)


READERS = [
    (lambda w, x: F.conv_transpose1d(x, w), (16, 24, 3)),
    (lambda w, x: F.conv_transpose1d(x, w, groups=4), (16, 24, 3)),
    (lambda w, x: F.conv3d(x[:, None, None], w), (16, 1, 1, 3, 3)),
    (lambda w, x: x @ w, (16, 64)),
    (lambda w, x: F.linear(x, w.t().chunk(2)[1]), (16, 64)),
    (lambda w, x: F.linear(x, w.view(64, 16)), (64, 16, 1)),
    (lambda w, x: torch.einsum("bij,jk->bik", x, w), (16, 64)),
    (lambda w, x: torch.cat([w.expand(x.shape[0], -1, -1), x], 1), (1, 40, 16)),
    (lambda w, x: F.embedding(x.argmax(-1), w), (64, 16)),
    (lambda w, x: w[x.argmax(-1)], (64, 16)),
]
SETTINGS = [
    {}, {"weights": 4, "first_last_bits": None}, {"affine_weights": True}, {"granularity": "per_tensor"},
    {"granularity": PerGroup(16)}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_readers_of_stored_weights_match_the_program(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 16, 16)
    program = Program.capture(Readers(READERS), x[:2])
    quantized = quantize(program, None, Quantization(activations=None, **settings))
    model = to_onnx(quantized)
    assert stored(model)["FLOAT"] < program.costs().weight_bytes / 8
    found = OnnxEngine(model).run((x.numpy(),))
    for have, want in zip(found, quantized.run(x), strict=True):
        torch.testing.assert_close(torch.from_numpy(have), want, rtol=1e-4, atol=1e-4)


def test_transposed_convolutions_read_quantized_values_unchanged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 16, 2, 2),
                          nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 3, 1),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten())
    program = Program.capture(model, x[:2])
    task = Task((x, torch.arange(32) % 3), test=(x[:4], torch.arange(4) % 3))
    quantized = quantize(program, task)
    file = to_onnx(quantized)
    assert (run(file, x) - quantized.run(x)).abs().max() < 1e-5
    graph = optimized(file, tmp_path / "o.onnx")
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    (layer,) = [node for node in graph.node if node.op_type == "ConvTranspose"]
    assert weights[layer.input[1]] == TensorProto.FLOAT  # not rounded a second time
    assert np.prod(next(t.dims for t in graph.initializer if t.name == layer.input[1])) == 512
