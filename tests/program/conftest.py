"""Small models, a captured ResNet-20, and ways to prune at random."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.program import ChannelGroups, Program

EXAMPLE = Path(__file__).parents[2] / "examples" / "resnet.py"


class Net(nn.Module):
    """A forward pass written as a function of (self, *inputs), over named submodules."""

    def __init__(self, function: Callable[..., Any], **members: Any) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm other statistics, scales and shifts than the ones it starts with."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor | None, low: float, high: float) -> None:
        if tensor is not None:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                draw(module.weight, 0.5, 1.5)
                draw(module.bias, -0.5, 0.5)
                draw(module.running_mean, -0.5, 0.5)
                draw(module.running_var, 0.5, 1.5)
    return model


def choose(groups: ChannelGroups, seed: int = 0, share: float = 0.5) -> list[int]:
    """A random share of every group's channels, never all of them."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for group in groups.groups:
        count = min(round(share * len(group.channels)), len(group.channels) - 1)
        chosen += rng.permutation(group.channels)[:count].tolist()
    return chosen


@pytest.fixture(scope="session", name="net")
def net_class() -> type[Net]:
    return Net


@pytest.fixture(scope="session", name="randomise")
def randomise_function() -> Callable[..., nn.Module]:
    return randomise


@pytest.fixture(scope="session", name="choose")
def choose_function() -> Callable[..., list[int]]:
    return choose


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def resnet() -> Callable[[int], nn.Module]:
    """The example's ResNet with option-A shortcuts, of that many blocks a stage."""
    spec = importlib.util.spec_from_file_location("edgewright_example_resnet", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def build(depth: int) -> nn.Module:
        torch.manual_seed(0)
        return randomise(module.ResNet(depth)).eval()

    return build


@pytest.fixture(scope="session")
def resnet20_program(resnet: Callable[[int], nn.Module]) -> Program:
    """The captured ResNet-20; read only."""
    return Program.capture(resnet(3), torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope="session")
def small_program() -> Program:
    """Convolution, batch norm, ReLU, pooling, linear: enough for one group; read only."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return Program.capture(randomise(model), torch.zeros(1, 3, 8, 8))
