"""Which channels can be scaled, depending on the operators between two layers."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgewright.program import Program
from edgewright.quantization.ptq._scalable_channels import find_scalable_channels


@torch.library.custom_op("edgewright_scalable_tests::relu", mutates_args=())
def own_relu(x: torch.Tensor) -> torch.Tensor:
    """An operator of a model's own, homogeneous in nothing but its name."""
    return x + 1


own_relu.register_fake(torch.empty_like)


def called_relu(x: Any) -> Any:
    return own_relu(x)


THROUGH = {
    "nothing": lambda x: x, "relu": torch.relu, "leaky relu": F.leaky_relu, "negation": operator.neg,
    "max pool": lambda x: F.max_pool2d(x, 2), "average pool": lambda x: F.avg_pool2d(x, 2),
    "dropout": lambda x: F.dropout(x, training=False), "times a number": lambda x: x * 3, "halved": lambda x: x / 2,
    "padding with zeros": lambda x: F.pad(x, (1, 1)), "itself": lambda x: x + x,
    "reflection": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "turning": lambda x: x.transpose(2, 3), "upsampling": lambda x: F.interpolate(x, scale_factor=2),
    "mean over space": lambda x: x.mean((2, 3), keepdim=True),
    "space sliced": lambda x: x[:, :, 1:], "maximum": lambda x: torch.maximum(x, x.relu()),
}
BARRED = {
    "an operator of the model's own that is called relu": called_relu,
    "relu6": F.relu6, "sigmoid": torch.sigmoid, "hard-swish": F.hardswish, "gelu": F.gelu,
    "a number added": lambda x: x + 1, "a number divided": lambda x: 1 / (x + 9),
    "square": lambda x: x * x, "gate": lambda x: x * torch.sigmoid(x), "softmax": lambda x: x.softmax(1),
    "padding with ones": lambda x: F.pad(x, (1, 1), value=1.0),
    "mean over channels": lambda x: x - x.mean(1, keepdim=True),
    "floor": lambda x: torch.div(x, 2, rounding_mode="floor"),
    "a residual of the input": lambda x: x + torch.ones(4, 1, 1),
    "norm": lambda x: F.layer_norm(x, (4, 8, 8)),
}


class Between(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.function(self.one(x)))


def scalable(function: Any) -> Any:
    program = Program.capture(Between(function).eval(), torch.zeros(1, 3, 8, 8))
    return find_scalable_channels(program)


@pytest.mark.parametrize("name", THROUGH)
def test_operators_that_pass_factors(name: Any) -> None:
    found = scalable(THROUGH[name])
    assert found.streams.tolist() == [0] * 4
    one, two = found.layers
    assert (one.weight, one.bias, two.weight) == ("one.weight", "one.bias", "two.weight")
    assert one.reads.tolist() == [-1] * 3
    assert one.writes.tolist() == two.reads.tolist() == [0, 1, 2, 3]
    assert two.writes.tolist() == [-1, -1]


@pytest.mark.parametrize("name", BARRED)
def test_operators_that_block_factors(name: Any) -> None:
    found = scalable(BARRED[name])
    assert found.streams.tolist() == []
    assert all((layer.reads < 0).all() and (layer.writes < 0).all() for layer in found.layers)


def test_flattened_channels_keep_one_factor() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    found = find_scalable_channels(Program.capture(net, torch.zeros(1, 3, 2, 2)))
    assert found.layers[1].reads.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


def test_channels_read_through_a_sigmoid_are_not_scaled() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x).relu()
            return self.two(x) + self.three(torch.sigmoid(x[:, :2]))

    found = find_scalable_channels(Program.capture(Two(), torch.zeros(1, 3)))
    assert found.layers[0].writes.tolist() == [-1, -1, 0, 1]
    assert found.layers[1].reads.tolist() == [-1, -1, 0, 1]
