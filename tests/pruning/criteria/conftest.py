"""Networks with different kinds of coupled groups, and scores by group name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.channels import find_groups
from edgewright.program import Program
from edgewright.pruning import ChannelPruning
from edgewright.pruning.criteria import score_channels

IMAGE = (2, 4, 4)


class Residual(nn.Module):
    """A residual stream that three layers read, widened by padding as in ResNet's option A."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.one = nn.Conv2d(4, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.two = nn.Conv2d(6, 4, 3, padding=1)
        self.wide = nn.Conv2d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.two(self.norm(self.one(x)).relu())).relu()
        x = (F.pad(x, (0, 0, 0, 0, 2, 2)) + self.wide(x)).relu()
        return self.head(x.mean((2, 3)))


class CalledTwice(nn.Module):
    """One layer that is called twice, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 5, 1)
        self.shared = nn.Conv2d(5, 5, 1)
        self.last = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        once = self.shared(self.first(x).relu()).relu()
        twice = self.shared(once).relu()
        return self.last(torch.cat([once, twice], 1).amax((2, 3)))


class Grouped(nn.Module):
    """A grouped convolution, and linear layers on a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.mix = nn.Conv2d(8, 4, 1)
        self.up = nn.Linear(4, 7)
        self.down = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.grouped(self.first(x).relu()).relu())
        tokens = x.flatten(2).transpose(1, 2)
        return self.down(F.gelu(self.up(tokens))).mean(1)


@pytest.fixture(scope="session")
def coupled(mixed_program: Program) -> dict[str, Program]:
    """Programs by name, one per kind of coupling."""
    torch.manual_seed(1)
    models: dict[str, Any] = {"residual": Residual(), "twice": CalledTwice(), "grouped": Grouped()}
    nn.init.uniform_(models["residual"].norm.weight, 0.5, 1.5)
    return {"mixed": mixed_program} | {name: Program.capture(model.eval(), torch.zeros(1, *IMAGE))
                                       for name, model in models.items()}


@pytest.fixture(scope="session")
def scores_of() -> Callable[..., dict[str, list[float]]]:
    """Computes scores by group name, in the order of the channels in the group's first tensor."""
    def score(program: Program, task: Any = None, seed: int = 0,
              **options: Any) -> dict[str, list[float]]:
        groups = find_groups(program)
        scores = score_channels(program, task, groups, ChannelPruning(**options), seed)
        found = {}
        for group in groups.groups:
            place = (group.name, 0) if (group.name, 0) in group.slices else group.slices[0]
            ordered = sorted(group.channels, key=lambda c: int(groups.slices(c)[place][0]))
            found[group.name] = [scores[channel] for channel in ordered]
        return found
    return score


@pytest.fixture(scope="session")
def channel_slices() -> dict[str, Callable[[int], list[tuple[str, Any]]]]:
    """The slices (tensor, index) of channel ``c`` of each group of the mixed network."""
    return {
        "first.weight": lambda c: [
            ("first.weight", (c,)), ("norm.weight", (c,)), ("norm.bias", (c,)),
            ("deep.weight", (c,)), ("deep.bias", (c,)),
            ("head.weight", (slice(None), slice(16 * c, 16 * c + 16)))],
        "head.weight": lambda c: [
            ("head.weight", (c,)), ("head.bias", (c,)), ("last.weight", (slice(None), c))],
    }
