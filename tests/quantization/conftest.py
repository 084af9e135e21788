"""A small trained network with all common operators, and its task."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgewright.goals import Classification
from edgewright.program import Program
from edgewright.quantization import QAT, Quantization, quantize
from edgewright.task import Task
from edgewright.training import GoalLoss, Training, train


def colors(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy images (3, 8, 8); the class is the channel that is brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    images[torch.arange(count), labels] += 0.4
    return images, labels


class Small(nn.Module):
    """Convolution, norm, ReLU, a residual, pooling, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.hidden = nn.Linear(8, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.two(self.one(x).relu())).relu()
        x = nn.functional.max_pool2d(x, 2).mean((2, 3))
        return self.head(self.hidden(x).relu())


@pytest.fixture(scope="session")
def colour_task(one_thread: None) -> Task:
    return Task(colors(400, 0), colors(200, 1), colors(200, 2), name="colors")


@pytest.fixture(scope="session")
def small(colour_task: Task) -> Program:
    """Trained, in floating point; read only."""
    torch.manual_seed(0)
    net = Small()
    train(net, colour_task, Training(epochs=6, batch_size=32, lr=0.05), GoalLoss(Classification()))
    return Program.capture(net, colour_task.train.example(2))


@pytest.fixture(scope="session")
def small_quantized(small: Program, colour_task: Task) -> Program:
    return quantize(small, colour_task)


@pytest.fixture(scope="session")
def trained_quantization() -> Quantization:
    return Quantization(method=QAT(training=Training(epochs=2, batch_size=32, lr=0.01,
                                                        weight_decay=1e-5)))
