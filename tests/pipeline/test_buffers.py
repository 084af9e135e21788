"""A buffer that the model keeps out of its state dict goes through every pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.exits import HeadTraining


class Scaled(nn.Module):
    def __init__(self, width: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.register_buffer("scale", torch.linspace(0.5, 2, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


class Model(nn.Module):
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Scaled(8), nn.ReLU(), Scaled(8), nn.ReLU())
        self.head = nn.Linear(8, 3)
        self.register_buffer("shift", torch.linspace(-1, 1, 8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x + self.shift))


TRAINING = ew.Training(epochs=1, batch_size=16, compute="cpu")
PASSES = {
    "fit": lambda p, t: ew.fit(p, t, TRAINING),
    "static": ew.quantize,
    "dynamic": lambda p, t: ew.quantize(p, None, ew.Quantization(activations="dynamic")),
    "weight_only": lambda p, t: ew.quantize(p, None, ew.Quantization(activations=None)),
    "qat": lambda p, t: ew.quantize(p, t, ew.Quantization(method=ew.QAT(training=TRAINING))),
    "weights": lambda p, t: ew.prune_weights(p, t, ew.WeightPruning(training=TRAINING)),
    "channels": lambda p, t: ew.prune(p, t, ew.ChannelPruning(ratio=0.5, target="channels",
                                                              round_to=1)),
    "exits": lambda p, t: ew.add_exits(p, t, ew.EarlyExits(places=1, training=TRAINING)),
    "frozen exits": lambda p, t: ew.add_exits(p, t, ew.EarlyExits(
        places=1, training=HeadTraining(settings=TRAINING))),
    "student": lambda p, t: ew.fit(ew.distill.make_student(p, 0.5), t, TRAINING, teacher=p),
}


@pytest.fixture(scope="module")
def given() -> tuple[Any, ...]:
    torch.manual_seed(0)
    x, y = torch.randn(64, 8), torch.arange(64) % 3
    return ew.Program.capture(Model().eval(), x), ew.Task((x, y), test=(x[:9] + 1, y[:9]))


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_keeps_the_buffers(given: Any, name: Any, tmp_path: Path) -> None:
    program, task = given
    result = PASSES[name](program, task)
    scales = [value for key, value in result.state_dict().items() if key.endswith("scale")
              and key.startswith("blocks") and "layer" not in key]
    assert len(scales) == 2
    if name not in ("channels", "student"):
        assert torch.equal(scales[0], torch.linspace(0.5, 2, 8))
        assert torch.equal(result.state_dict()["shift"], torch.linspace(-1, 1, 8))
    result.save(tmp_path / "p.pt2")
    x = torch.randn(4, 8)
    torch.testing.assert_close(ew.Program.load(tmp_path / "p.pt2").run(x), result.run(x))
    again = result.with_state(result.state_dict())
    torch.testing.assert_close(again.run(x), result.run(x))
