"""A network with residual connections, pooling and linear layers, in float and quantized."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.quantization import quantize
from edgewright.task import Task


class Blocks(nn.Module):
    """Four convolutions in two residual blocks, a depthwise one, max pooling, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.skip = nn.Conv2d(8, 8, 1)
        self.hidden = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.one(x)).relu()
        x = self.skip(x) + self.two(x).relu()
        x = nn.functional.max_pool2d(x, 2).mean((2, 3))
        return self.head(self.hidden(x).relu())


@pytest.fixture(scope="session")
def images(one_thread: None) -> Tensor:
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def as_task() -> Callable[[Tensor], Task]:
    def make(x: Tensor) -> Task:
        y = torch.arange(len(x)) % 3
        return Task((x, y), (x, y), (x[:4], y[:4]))

    return make


@pytest.fixture(scope="session")
def blocks(images: Tensor) -> Program:
    torch.manual_seed(0)
    return Program.capture(Blocks().eval(), images[:2])


@pytest.fixture(scope="session")
def blocks_quantized(blocks: Program, images: Tensor, as_task: Callable[[Tensor], Task]) -> Program:
    return quantize(blocks, as_task(images))


@pytest.fixture(scope="session")
def blocks_file(blocks: Program) -> bytes:
    return to_onnx(blocks)


@pytest.fixture(scope="session")
def blocks_quantized_file(blocks_quantized: Program) -> bytes:
    return to_onnx(blocks_quantized)
