"""Models that choose their path by the input, with fixed weights, shared by several tests."""

from __future__ import annotations

from typing import Any

import torch
from tests.programs import randomise
from torch import Tensor, nn

from edgewright.graph import ops

IMAGES = (3, 8, 8)


class Gated(nn.Module):
    """One branch per sample, by the sign of the mean; an inner branch that is skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.small = nn.Conv2d(8, 8, 1)
        self.large = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                                   nn.Conv2d(16, 8, 3, padding=1))
        self.head = nn.Linear(8, 3)
        randomise(self)

    def forward(self, x: Tensor) -> Any:
        index = (x.mean((1, 2, 3)) > 0).to(torch.int64)
        h = self.stem(x).relu()
        h = ops.ROUTE(index, [self.small(h), self.large(h)]).relu()
        return self.head(h.mean((2, 3)))


class Conditional(nn.Module):
    """One branch per call, nested, with an intermediate value that the rest reads, too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(6, 3)
        self.a = nn.Linear(8, 6)
        self.b = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6))

    def forward(self, x: Tensor) -> Any:
        h = self.stem(x).relu()

        def inner(h: Tensor) -> Any:
            return torch.cond(h[:, 0].sum() > 1, lambda h: self.a(h) + 1,
                              lambda h: self.a(h) * torch.tensor([1., 2, 3, 4, 5, 6]), (h,))

        y = torch.cond(x.sum() > 0, inner, self.b, (h,))
        return self.head(y.relu()) + h[:, :3]

    def reference(self, x: Tensor) -> Tensor:
        """The same in Python; eager torch.cond cannot be nested."""
        h = self.stem(x).relu()
        if x.sum() > 0:
            y = self.a(h) + 1 if h[:, 0].sum() > 1 else self.a(h) * torch.arange(1., 7)
        else:
            y = self.b(h)
        result: Tensor = self.head(y.relu()) + h[:, :3]
        return result


def images(count: int = 12, seed: int = 0) -> Tensor:
    """Images of which about half have a mean above 0."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randn(count, 1, 1, 1, generator=generator)
    return torch.randn(count, *IMAGES, generator=generator) + shift
