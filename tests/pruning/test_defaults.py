"""The defaults of `ChannelPruning` on a trained network with wide layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.pruning import ChannelPruning, prune
from edgewright.task import Task, load_task

GLOBAL_UNCOMPENSATED = {"allocation": "global", "compensate": False, "round_to": 4, "least_width": 0}


def conv_block(inputs: Any, outputs: Any) -> tuple[Any, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("digits", seed=0)


@pytest.fixture(scope="module")
def program(task: Task) -> Program:
    """Four layers, of up to 128 channels, trained on handwritten digits."""
    torch.manual_seed(0)
    model = nn.Sequential(*conv_block(1, 32), *conv_block(32, 128), nn.MaxPool2d(2), *conv_block(128, 128),
                          nn.MaxPool2d(2), *conv_block(128, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(2):
        for batch in task.train.batches(50):
            optimizer.zero_grad()
            F.cross_entropy(model(*batch.inputs), batch.targets).backward()
            optimizer.step()
    return Program.capture(model, next(task.train.batches(2)).inputs[0])


def accuracy(program: Program, task: Task) -> float:
    batch = next(task.test.batches(len(task.test)))
    return float((program.run(*batch.inputs).argmax(dim=1) == batch.targets).float().mean())


def widths(program: Program) -> list[int]:
    return [len(value) for value in program.state_dict().values() if value.ndim == 4]


@pytest.mark.parametrize(("ratio", "criterion"), [
    (0.5, "gauss_newton"), (0.7, "gauss_newton"), (0.7, "magnitude"), (0.7, "taylor")])
def test_defaults_keep_accuracy_without_training(program: Program, task: Task, ratio: float,
                                                 criterion: str) -> None:
    pruned = prune(program, task, ChannelPruning(ratio=ratio, criterion=criterion))
    assert pruned.costs().macs <= (1 - ratio) * program.costs().macs
    assert accuracy(pruned, task) > accuracy(program, task) - 0.05
    assert all(kept >= before / 8 for kept, before in
               zip(widths(pruned), widths(program), strict=True))
    assert all(kept % 16 == 0 for kept in widths(pruned)[1:])
    assert widths(pruned)[0] % 8 == 0  # a layer of 32 channels has steps of 8


def test_global_allocation_without_compensation_loses_accuracy(program: Program, task: Task) -> None:
    pruned = prune(program, task, ChannelPruning(ratio=0.7, **GLOBAL_UNCOMPENSATED))
    assert accuracy(pruned, task) < accuracy(program, task) - 0.2


@pytest.mark.parametrize("target", ["macs", "params", "channels"])
@pytest.mark.parametrize("allocation", ["uniform", "global", "solved"])
def test_every_layer_keeps_the_least_width(program: Program, allocation: str, target: str) -> None:
    for steps in (1, 3):
        pruned = prune(program, None, ChannelPruning(
            criterion="l1", ratio=0.6, allocation=allocation, target=target, least_width=0.3,
            round_to=1, steps=steps, prove_export=False))
        assert all(kept >= 0.3 * before for kept, before in
                   zip(widths(pruned), widths(program), strict=True))


def test_ratio_that_violates_the_least_width_is_rejected(program: Program) -> None:
    with pytest.raises(UsageError, match=r"cannot remove 95 % of the macs: the smallest legal "
                                         r"program keeps 25\.\d % \(widths in automatic steps, at least 0\.5 of "
                                         "every group\\); remove less, lower least_width "
                                         "or round_to, or ignore fewer layers"):
        prune(program, None, ChannelPruning(criterion="l1", ratio=0.95, least_width=0.5))


def test_defaults_prune_a_tiny_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    program = Program.capture(model, torch.zeros(1, 4))
    x, y = torch.randn(60, 4), torch.arange(60) % 3
    pruned = prune(program, Task((x, y), test=(x, y)))
    assert pruned.costs().macs <= 0.5 * program.costs().macs
