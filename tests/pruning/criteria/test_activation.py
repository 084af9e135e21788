"""Activation criteria, against activations computed with the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.programs import Mixed
from torch import nn

from edgewright.program import Program
from edgewright.task import Task


@pytest.fixture(scope="module")
def outputs(mixed: Mixed, mixed_task: Task) -> dict[str, Any]:
    """Activations of each group of the mixed network at the input of the next layer."""
    x = next(mixed_task.train.batches(80)).inputs[0]
    with torch.no_grad():
        maps = mixed.deep(mixed.norm(mixed.first(x)).relu()).relu()
        return {"first.weight": maps, "head.weight": mixed.head(maps.flatten(1)).relu()}


def test_activation_is_the_mean_absolute_layer_input(mixed_program: Program, mixed_task: Task, scores_of: Callable[..., dict[str, list[float]]],
                                                     outputs: Any) -> None:
    found = scores_of(mixed_program, mixed_task, criterion="activation")
    for name, maps in outputs.items():
        want = [float(maps[:, c].abs().mean()) for c in range(maps.shape[1])]
        assert found[name] == pytest.approx(want, rel=1e-5)


def test_apoz_is_the_fraction_of_positive_activations(mixed_program: Program, mixed_task: Task,
                                                      scores_of: Callable[..., dict[str, list[float]]],
                                                      outputs: Any) -> None:
    found = scores_of(mixed_program, mixed_task, criterion="apoz")
    for name, maps in outputs.items():
        want = [float((maps[:, c] > 0).double().mean()) for c in range(maps.shape[1])]
        assert found[name] == pytest.approx(want)


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(4)])
def test_apoz_uses_activations_before_average_pooling(mixed_task: Task,
                                                      scores_of: Callable[..., dict[str, list[float]]],
                                                      pool: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.ZeroPad2d(1), pool, nn.Flatten(),
                          nn.Dropout(), nn.Linear(6, 3)).eval()
    program = Program.capture(model, torch.zeros(1, 2, 4, 4))
    found = scores_of(program, mixed_task, criterion="apoz")["0.weight"]
    with torch.no_grad():
        maps = model[:3](next(mixed_task.train.batches(80)).inputs[0])
    assert found == pytest.approx((maps > 0).double().mean((0, 2, 3)).tolist())
    assert max(found) < 0.5  # the padding is zero
