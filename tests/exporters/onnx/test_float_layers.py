"""Layers in floating point are computed in floating point by the runtime."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.exporters import to_onnx
from edgewright.task import Task


class Summed(nn.Module):
    """Two convolutions of one value, added and read by a third."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in "abc")
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head(self.c((self.a(x) + self.b(x)).relu()).mean((2, 3)))


@pytest.mark.parametrize("kept", ["a", "b", "c"])
def test_runtime_does_not_quantize_float_weights(kept: str) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 3, 8, 8), torch.arange(64) % 3
    program = ew.Program.capture(Summed().eval(), x[:2])
    task = Task((x, y), test=(x[:3], y[:3]))
    quantized = ew.quantize(program, task, ew.Quantization(layers={kept: None}))
    session = onnxruntime.InferenceSession(to_onnx(quantized))  # as anybody would make it
    have, = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    wanted = quantized.run(x)
    assert float((torch.from_numpy(have) - wanted).norm() / wanted.norm()) < 1e-5
