"""Teachers whose words are given, and small networks of every make."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgewright.distill import Teacher, TeacherOutput, make_student
from edgewright.program import Program
from edgewright.task import Batch


class Saying(Teacher):
    """A teacher that says the same of everything."""

    def __init__(self, outputs: Any, *features: Tensor) -> None:
        self.name = "saying"
        self.outputs, self.features = outputs, features

    def teach(self, batch: Batch) -> TeacherOutput:
        return TeacherOutput(self.outputs, self.features)


class Block(nn.Module):
    """A residual block; a change of shape is subsampled with zeros, or projected."""

    def __init__(self, before: int, after: int, stride: int = 1, *, project: bool = False) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.two = nn.Conv2d(after, after, 3, 1, 1)
        self.shortcut = nn.Conv2d(before, after, 1, stride) if project else None
        self.stride, self.missing = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        inner = self.two(self.norm(self.one(x)).relu())
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.missing:
            x = nn.functional.pad(x[:, :, ::self.stride, ::self.stride],
                                  (0, 0, 0, 0, 0, self.missing))
        return torch.relu(inner + x)


class Pyramid(nn.Module):
    """Stages of ``depth`` blocks on 8 x 8, 4 x 4 and 2 x 2 places."""

    def __init__(self, width: int = 8, depth: int = 2, *, project: bool = False,
                 classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        widths = [width, width, 2 * width, 4 * width]
        self.stages = nn.Sequential(*(nn.Sequential(*(
            Block(widths[stage + (index > 0)], widths[stage + 1], 1 + (stage > 0 and index == 0),
                  project=project and stage > 0 and index == 0)
            for index in range(depth))) for stage in range(3)))
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x).relu()).mean((2, 3)))


class Tokens(nn.Module):
    """A transformer of ``depth`` layers on 16 tokens, with positions."""

    def __init__(self, width: int = 8, depth: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, 2)
        self.position = nn.Parameter(torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(nn.TransformerEncoderLayer(
            width, 2, 2 * width, batch_first=True, norm_first=True) for _ in range(depth)))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.layers(tokens).mean(1))


def perceptron(*widths: int) -> nn.Module:
    layers = [nn.Linear(*pair) for pair in pairwise(widths)]
    return nn.Sequential(*(part for layer in layers[:-1] for part in (layer, nn.ReLU())),
                         layers[-1])


def captured(model: nn.Module, *shape: int) -> Program:
    return Program.capture(model, torch.zeros(2, *(shape or (1, 8, 8))))


@pytest.fixture(scope="session")
def pyramid() -> Program:
    torch.manual_seed(0)
    return captured(Pyramid())


@pytest.fixture(scope="session")
def deep_pyramid() -> Program:
    torch.manual_seed(0)
    return captured(Pyramid(width=12, depth=4))


@pytest.fixture(scope="session")
def halved(deep_pyramid: Program) -> Program:
    """Half the width and half the blocks of the deep pyramid, drawn anew."""
    return make_student(deep_pyramid, width=0.5, depth=0.5)


@pytest.fixture(scope="session")
def projecting() -> Program:
    torch.manual_seed(0)
    return captured(Pyramid(depth=4, project=True))


@pytest.fixture(scope="session")
def tokens() -> Program:
    torch.manual_seed(0)
    return captured(Tokens())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", name="saying")
def saying_class() -> type[Saying]:
    return Saying


@pytest.fixture(scope="session", name="pyramid_of")
def pyramid_class() -> type[Pyramid]:
    return Pyramid


@pytest.fixture(scope="session", name="perceptron")
def perceptron_function() -> Any:
    return perceptron


@pytest.fixture(scope="session", name="captured")
def captured_function() -> Any:
    return captured
