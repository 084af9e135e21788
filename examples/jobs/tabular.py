"""A table with categories and numbers: two inputs, one of integers and one of floats."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgewright as ew


class Tabular(nn.Module):
    """A vector per category, joined with the numbers, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.categories = nn.Embedding(50, 16)
        self.layers = nn.Sequential(nn.Linear(3 * 16 + 6, 64), nn.ReLU(),
                                    nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        """Map codes (N, 3) int64 and numbers (N, 6) to logits (N, 3)."""
        logits: Tensor = self.layers(torch.cat([self.categories(codes).flatten(1), numbers], 1))
        return logits


def make_model() -> nn.Module:
    """The tabular network."""
    return Tabular()


def make_task() -> ew.Task:
    """Several inputs are a tuple; classification is the default goal."""
    codes, numbers, y = _samples()
    return ew.Task(((codes[:1000], numbers[:1000]), y[:1000]),
                   test=((codes[1000:], numbers[1000:]), y[1000:]))


def _samples() -> tuple[Tensor, Tensor, Tensor]:
    """Codes, numbers, and a class that both decide."""
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 50, (1400, 3), generator=random)
    numbers = torch.randn(1400, 6, generator=random)
    worth = torch.randn(50, 3, generator=random)[codes].sum(1)
    return codes, numbers, (worth + numbers @ torch.randn(6, 3, generator=random)).argmax(1)
