"""Programs with several groups of channels, of widths that no step divides evenly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgewright.program import ChannelGroups, Program


class Residual(nn.Module):
    """Two residual branches over one group of 12 channels, with depthwise and dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 12, 3, padding=1)
        self.wide = nn.Conv2d(12, 18, 1)
        self.deep = nn.Conv2d(18, 18, 3, padding=1, groups=18)
        self.back = nn.Conv2d(18, 12, 1)
        self.last = nn.Conv2d(12, 7, 1)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.back(self.deep(self.wide(x).relu()).relu())
        return self.head(self.last(x).relu().mean((2, 3)))


@pytest.fixture(scope="session")
def residual() -> Program:
    torch.manual_seed(0)
    return Program.capture(Residual(), torch.zeros(1, 2, 4, 4))


@pytest.fixture(scope="session")
def residual_groups(residual: Program) -> ChannelGroups:
    return residual.groups()


@pytest.fixture(scope="session")
def rigid() -> Program:
    """Nothing in it can be pruned."""
    return Program.capture(nn.Linear(4, 3), torch.zeros(1, 4))
