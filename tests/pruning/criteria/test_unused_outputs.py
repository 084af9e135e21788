"""Layers that only an auxiliary output needs have no effect on the goal."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

import edgewright as ew
from edgewright.pruning import ChannelPruning


class WithAuxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Linear(4, 16), nn.Linear(16, 3)
        self.hidden, self.aux = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x).relu()
        return {"out": self.out(x), "aux": self.aux(self.hidden(x).relu())}


@pytest.mark.parametrize("criterion", ["gauss_newton", "fisher", "taylor", "obd"])
def test_channels_of_an_unused_output_are_pruned_first(
        criterion: Literal["gauss_newton", "fisher", "taylor", "obd"]) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    task = ew.Task((x, torch.arange(64) % 3), test=(x[:9], torch.arange(9) % 3),
                   goal=ew.Classification(output="out"))
    program = ew.Program.capture(WithAuxiliary(), x[:2])
    config = ChannelPruning(criterion=criterion, ratio=0.3, target="params", allocation="global",
                            normalize=False, round_to=1, compensate=False, prove_export=False)
    state = ew.prune(program, task, config).state_dict()
    assert state["stem.weight"].shape[0] == 16
    assert state["hidden.weight"].shape[0] < 10
