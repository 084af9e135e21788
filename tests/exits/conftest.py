"""A task of graded difficulty, a small trained network, and the same with two early exits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from edgewright.exits import EarlyExits, add_exits
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import LabelLoss, Training, train


def clouds(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (1, 8, 8) of four overlapping classes, told apart by the brightness of quadrants."""
    quarters = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(7))
    centres = quarters.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    noise = torch.randn(count, 1, 8, 8, generator=generator)
    return 0.35 * centres[labels] + noise, labels


class Chain(nn.Module):
    """Convolution, norm, ReLU; a residual block; a strided convolution; a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.one = nn.Conv2d(6, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.two(self.one(x).relu())).relu()
        return self.head(adaptive_avg_pool2d(self.down(x).relu(), 2).flatten(1))


@pytest.fixture(scope="session")
def cloud_task(one_thread: None) -> Task:
    return Task(clouds(400, 0), clouds(200, 1), clouds(200, 2), name="clouds")


@pytest.fixture(scope="session")
def chain_program(cloud_task: Task) -> Program:
    torch.manual_seed(0)
    net = Chain()
    train(net, cloud_task, Training(epochs=6, batch_size=32, lr=0.05), LabelLoss())
    return Program.capture(net, cloud_task.train.example(2))


@pytest.fixture(scope="session")
def staged(chain_program: Program, cloud_task: Task) -> Program:
    """The trained network with two trained exits."""
    return add_exits(chain_program, cloud_task, EarlyExits(count=2, training=Training(
        epochs=4, batch_size=32, lr=0.05)))
