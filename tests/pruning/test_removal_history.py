"""Consecutive removals are equivalent to one removal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgewright.channels import find_groups, remove_channels
from edgewright.program import Program
from edgewright.pruning import ChannelPruning, prune
from edgewright.pruning._compensate import compensate
from edgewright.pruning._removal_history import RemovalHistory
from edgewright.task import Task


class Attention(nn.Module):
    """Heads, head widths and the channels of tokens are separate groups."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 12), nn.LayerNorm(12)
        self.attend = nn.MultiheadAttention(12, 4, batch_first=True)
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y = self.norm(x)
        return self.last(x + self.attend(y, y, y, need_weights=False)[0])


@pytest.fixture(scope="module")
def attention() -> Any:
    torch.manual_seed(0)
    return Program.capture(Attention().eval(), torch.zeros(2, 5, 6))


@pytest.mark.parametrize("name", ["mixed_program", "attention"])
@pytest.mark.parametrize("seed", range(4))
def test_consecutive_removals_equal_one_removal(name: str, seed: int,
                                                request: pytest.FixtureRequest) -> None:
    program = request.getfixturevalue(name)
    random, groups = np.random.default_rng(seed), find_groups(program)
    history, left = RemovalHistory(groups), program
    for _ in range(4):
        step = find_groups(left)
        removable = [group.channels for group in step.groups if len(group.channels) > 1]
        removed = [int(random.choice(channels)) for channels in removable if random.random() < 0.7]
        history.record(step, removed)
        left = remove_channels(left, step, removed)
    at_once = remove_channels(program, groups, history.removed)
    assert history.removed
    assert all(torch.equal(tensor, at_once.state_dict()[name])
               for name, tensor in left.state_dict().items())


def test_group_with_one_channel_left_is_kept(mixed_program: Program) -> None:
    groups = find_groups(mixed_program)
    history, left = RemovalHistory(groups), mixed_program
    for _ in range(6):
        step = find_groups(left)
        removed = [group.channels[0] for group in step.groups if len(group.channels) > 1]
        history.record(step, removed)
        left = remove_channels(left, step, removed)
    at_once = remove_channels(mixed_program, groups, history.removed)
    assert [len(left.state_dict()[name]) for name in ("first.weight", "head.weight")] == [1, 1]
    assert all(torch.equal(tensor, at_once.state_dict()[name])
               for name, tensor in left.state_dict().items())


def test_weight_criteria_compensate_once_after_all_steps(
        mixed_program: Program, mixed_task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.pruning import _prune  # noqa: PLC0415

    calls = []

    def counting_compensate(*given: Any, **how: Any) -> Program:
        calls.append(given)
        return compensate(*given, **how)

    monkeypatch.setattr(_prune, "compensate", counting_compensate)
    settings: dict[str, Any] = {"ratio": 0.5, "round_to": 1, "steps": 4, "compensate": True}
    plain = prune(mixed_program, None, ChannelPruning(
        criterion="magnitude", **settings | {"compensate": False}))
    repaired = prune(mixed_program, mixed_task, ChannelPruning(criterion="magnitude", **settings))
    assert len(calls) == 1
    assert calls[0][0].graph_module is mixed_program.graph_module
    assert {name: tensor.shape for name, tensor in repaired.state_dict().items()} == {
        name: tensor.shape for name, tensor in plain.state_dict().items()}
    x = next(mixed_task.train.batches(72)).inputs[0]
    errors = [(one.run(x) - mixed_program.run(x)).norm() for one in (repaired, plain)]
    assert errors[0] < 0.7 * errors[1]
    prune(mixed_program, mixed_task, ChannelPruning(criterion="taylor", **settings))
    assert len(calls) == 1 + 4
    prune(mixed_program, mixed_task, ChannelPruning(criterion="magnitude", **settings),
          recover=lambda program, step: program)
    assert len(calls) == 1 + 4 + 4
