"""A small network whose group passes through every kind of tensor, and data for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgewright.program import Program
from edgewright.task import Task

IMAGE = (2, 4, 4)


class Mixed(nn.Module):
    """Five channels through convolution, norm, depthwise convolution and a flattened linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 5, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.deep = nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.head = nn.Linear(5 * 16, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(self.norm(self.first(x)).relu()).relu()
        return self.last(self.head(x.flatten(1)).relu())


@pytest.fixture(scope="session")
def mixed() -> nn.Module:
    torch.manual_seed(0)
    model = Mixed()
    with torch.no_grad():
        for tensor in (*model.norm.parameters(), model.norm.running_mean, model.norm.running_var):
            tensor.copy_(torch.rand(5) + 0.5)
    return model.eval()


@pytest.fixture(scope="session")
def mixed_program(mixed: nn.Module) -> Program:
    return Program.capture(mixed, torch.zeros(1, *IMAGE))


@pytest.fixture(scope="session")
def mixed_task() -> Task:
    """Eighty samples: a batch of 64 and one of 16."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, *IMAGE, generator=generator)
    y = torch.randint(0, 3, (80,), generator=generator)
    return Task((x, y), val=(x[:8], y[:8]), test=(x[8:15], y[8:15]))
