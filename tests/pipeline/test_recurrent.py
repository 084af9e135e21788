"""Recurrent networks through a whole run: pruned, recovered, quantized and proved, of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.bundle import read_bundle
from edgewright.channels import apply_to

WIDTH, COUNT = 32, 120
X = torch.randn(COUNT, 8, 20, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0].mean(1) > X[:, 1].mean(1)).long()
TASK = ew.Task((X, Y), test=(X[:60] + 0.01, Y[:60]))
RECIPE = ew.Recipe(name="pruned", prune=ew.ChannelPruning(ratio=0.5),
                   recover=ew.Training(epochs=1, compute="cpu"), quantize=ew.Quantization())


class Listener(nn.Module):
    """A convolution that halves the length, a stack of LSTMs in both directions, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(8, 16, 3, stride=2, padding=1)
        self.cells = nn.LSTM(16, WIDTH, num_layers=2, bidirectional=True, batch_first=True,
                             dropout=0.1)
        self.head = nn.Linear(2 * WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(self.stem(x).relu().transpose(1, 2))[0].mean(1))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    program = ew.Program.capture(Listener(), X[:2], dynamic={"x": {2: (10, 90)}})
    return ew.compress(program, TASK, recipe=RECIPE, quiet=True,
                       out=tmp_path_factory.mktemp("recurrent") / "run")


def segment_of(result: Any) -> bytes:
    content, = read_bundle(result.bundle).segments.values()
    return content


def test_a_stack_loses_half_of_its_macs_in_the_file(result: Any) -> None:
    report = result.manifest.report
    assert report.compressed["macs"] <= 0.5 * report.original["macs"]
    assert report.uncounted == ()
    assert {layer.op for layer in report.layers} == {"conv1d", "lstm", "linear"}
    file = onnx.load_from_string(segment_of(result))
    hidden = [attribute.i for node in file.graph.node if node.op_type == "LSTM"
              for attribute in node.attribute if attribute.name == "hidden_size"]
    assert len(hidden) == 2
    assert max(hidden) < WIDTH


def test_its_weights_are_integers_in_the_file(result: Any) -> None:
    file = onnx.load_from_string(segment_of(result))
    weights = [tensor for tensor in file.graph.initializer if np.prod(tensor.dims) > 1000]
    assert len(weights) == 4
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    assert result.manifest.report.compressed["size_bytes"] < \
        0.3 * result.manifest.report.original["size_bytes"]


def test_the_file_takes_any_length_of_the_range(result: Any) -> None:
    session = ew.load(result.bundle)
    for length in (10, 33, 90):
        x = torch.randn(3, 8, length)
        assert np.allclose(session(x.numpy()).output, result.program.run(x).numpy(), atol=0.05)


def test_a_streaming_model_takes_the_pruned_widths() -> None:
    """Its states are inputs, which stay as they are: it is pruned in the form without them."""
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.head = nn.GRU(8, WIDTH, batch_first=True), nn.Linear(WIDTH, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cells(x.transpose(1, 2))[0][:, -1])

    class Streaming(Whole):
        def forward(self, x: Tensor, state: Tensor) -> Any:  # type: ignore[override]
            steps, state = self.cells(x.transpose(1, 2), state)
            return {"logits": self.head(steps[:, -1]), "state": state}

    whole = Whole()
    pruned = ew.prune(ew.Program.capture(whole, X[:2]), TASK, ew.ChannelPruning(ratio=0.5))
    apply_to(pruned, whole)
    width = whole.cells.hidden_size
    assert width < WIDTH
    assert whole.cells.input_size == 8
    streaming = Streaming()
    streaming.cells, streaming.head = whole.cells, whole.head
    program = ew.Program.capture(streaming, (X[:2, :, :5], torch.zeros(1, 2, width)),
                                 states={"state": "state"}, batch_dims={"state": 1})
    state = torch.zeros(4, 1, width)
    for part in X[:4].split(5, 2):
        found = program.run(part, state)
        state = found["state"]
    torch.testing.assert_close(found["logits"], pruned.run(X[:4]), rtol=1e-4, atol=1e-5)
