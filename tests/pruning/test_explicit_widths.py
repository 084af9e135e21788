"""Channel pruning to widths that are given for each group."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.channels import find_groups
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning import (
    ChannelPruning,
    StructureRegularization,
    _prune,
    prune,
    regularize,
    remove_vanished,
)
from edgewright.pruning.criteria import score_channels
from edgewright.task import Task
from edgewright.training import Training


def sizes(program: Program) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in program.state_dict().items()
            if value.ndim > 1}


def test_named_groups_get_their_width_and_others_stay(mixed_program: Program) -> None:
    before = sizes(mixed_program)
    config = ChannelPruning(criterion="magnitude", widths={"head": 4})
    after = sizes(prune(mixed_program, None, config))
    assert after["head.weight"] == (4, before["head.weight"][1])
    assert after["last.weight"] == (3, 4)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"head.weight", "last.weight"}
    config = config.replace(widths={"head": 3, "first": 1})
    after = sizes(prune(mixed_program, None, config))
    assert (after["first.weight"][0], after["head.weight"][0]) == (1, 3)


@pytest.mark.parametrize("criterion", ["magnitude", "gauss_newton"])
def test_the_criterion_ranks_the_channels_of_a_group(mixed_program: Program, mixed_task: Task,
                                                     criterion: Any) -> None:
    config = ChannelPruning(criterion=criterion, widths={"head": 2}, compensate=False)
    groups = find_groups(mixed_program)
    scores = score_channels(mixed_program, mixed_task, groups, config, 0)
    (group,) = (group for group in groups.groups if group.name == "head.weight")
    best = sorted(sorted(group.channels, key=scores.__getitem__)[-2:])
    rows = [group.channels.index(channel) for channel in best]
    pruned = prune(mixed_program, mixed_task, config).state_dict()
    torch.testing.assert_close(pruned["head.weight"],
                               mixed_program.state_dict()["head.weight"][rows], rtol=0, atol=0)


def test_widths_are_compensated_if_there_is_data(mixed_program: Program, mixed_task: Task) -> None:
    config = ChannelPruning(criterion="magnitude", widths={"head": 3})
    plain = prune(mixed_program, None, config)
    fitted = prune(mixed_program, mixed_task, config)
    assert sizes(plain) == sizes(fitted)
    x = mixed_task.train.example(32)
    want = mixed_program.run(*x)
    errors = [float((program.run(*x) - want).square().mean()) for program in (fitted, plain)]
    assert errors[0] < errors[1]


def test_full_widths_change_nothing(mixed_program: Program) -> None:
    same = prune(mixed_program, None, ChannelPruning(criterion="magnitude", widths={"head": 6}))
    torch.testing.assert_close(same.state_dict(), mixed_program.state_dict(), rtol=0, atol=0)


def test_widths_that_do_not_fit_are_refused_before_channels_are_scored(
        mixed_program: Program, mixed_task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[object] = []
    monkeypatch.setattr(_prune, "score_channels", lambda *args: scored.append(args))
    with pytest.raises(UsageError, match="'haed' is no group; similar names: head"):
        prune(mixed_program, mixed_task, ChannelPruning(widths={"haed": 2}))
    with pytest.raises(UsageError, match="'head' cannot be pruned: ignore='head'"):
        prune(mixed_program, mixed_task, ChannelPruning(widths={"head": 2}, ignore=("head",)))
    assert not scored


def test_growing_decay_drives_channels_above_the_widths_to_zero() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(256, 4), torch.arange(256) % 2
    program = Program.capture(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), x)
    shrunk = regularize(program, Task((x, y), test=(x, y)), StructureRegularization(
        strength=50.0, channels=ChannelPruning(criterion="magnitude", widths={"0": 5}),
        training=Training(epochs=40, batch_size=16, lr=0.05, augment=False)))
    assert sizes(remove_vanished(shrunk, tolerance=0.01)) == {"0.weight": (5, 4),
                                                              "2.weight": (2, 5)}


@pytest.mark.parametrize(("setting", "value"), [
    ("ratio", 0.3), ("target", "params"), ("allocation", "uniform"), ("steps", 2),
    ("least_width", 0.25), ("round_to", 4), ("normalize", True)])
def test_settings_that_choose_widths_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(UsageError, match="ChannelPruning: widths are given, so nothing is left to "
                                         f"choose with {setting}; omit either"):
        ChannelPruning(widths={"a": 2}, **{setting: value})


@pytest.mark.parametrize(("widths", "message"), [
    ({}, "widths: Dictionary should have at least 1 item"),
    ({"a": 0}, "widths.a: Input should be greater than or equal to 1, got 0"),
    ({"a": "b"}, "widths.a: Input should be a valid integer")])
def test_invalid_widths_are_refused(widths: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^ChannelPruning: {re.escape(message)}"):
        ChannelPruning(widths=widths)
