"""Predicted damages: the same unit for blocks, widths and bits, measured once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.allocation import Damages, JointSpace
from edgewright.channels import LegalWidths, compute_group_widths, remove_channels
from edgewright.program import Program
from edgewright.pruning import ChannelPruning, score_channels
from edgewright.quantization import Quantization
from edgewright.search._damages import measure_damages
from edgewright.search._space import make_space
from edgewright.task import Task
from edgewright.training import measure_loss

SCHEME = Quantization(range_estimator="minmax")
SAMPLES = 48


@pytest.fixture(scope="module")
def space(trained_program: Program) -> JointSpace:
    return make_space(trained_program, SCHEME)


@pytest.fixture(scope="module")
def damages(space: JointSpace, quadrant_task: Task,
            tmp_path_factory: pytest.TempPathFactory) -> Damages:
    return measure_damages(space, quadrant_task, SCHEME, samples=SAMPLES, seed=0,
                           path=tmp_path_factory.mktemp("damages") / "damages.json")


def test_what_changes_nothing_has_no_damage(space: JointSpace, damages: Damages) -> None:
    assert all(values[-1] == 0 for values in damages.widths)
    assert all(values[0] == 0 for values in damages.bits.values())
    assert all((values >= 0).all() for values in damages.widths)


def test_fewer_bits_and_channels_do_more_damage(damages: Damages) -> None:
    assert all((np.diff(values) <= 0).all() for values in damages.widths)
    assert all(np.all(np.diff(values) >= 0) for values in damages.bits.values() if len(values) > 1)


def test_half_the_width_is_measured(space: JointSpace, damages: Damages,
                                    quadrant_task: Task) -> None:
    shown = quadrant_task.train.sample(SAMPLES, seed=0)
    scores = score_channels(space.program, quadrant_task, space.groups,
                            ChannelPruning(samples=SAMPLES), 0)
    group = compute_group_widths(space.groups, LegalWidths(), scores, normalize=False)[0]
    half = int(np.abs(space.widths[0] - group.count / 2).argmin())
    narrow = remove_channels(space.program, space.groups,
                             group.ranked[: group.count - int(space.widths[0][half])])
    rise = (measure_loss(narrow.module(), shown, quadrant_task.goal)
            - measure_loss(space.program.module(), shown, quadrant_task.goal))
    assert damages.widths[0][half] == pytest.approx(max(0.0, rise))


def test_they_are_read_from_their_file(space: JointSpace, damages: Damages, quadrant_task: Task,
                                       tmp_path: Path) -> None:
    file = tmp_path / "damages.json"
    first = measure_damages(space, quadrant_task, SCHEME, samples=SAMPLES, seed=0, path=file)
    again = measure_damages(space, quadrant_task, SCHEME, samples=2, seed=9, path=file)
    for one, two in zip(first.widths, again.widths, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first.blocks, first.bits, first.pairs) == (again.blocks, again.bits, again.pairs)


def test_blocks_are_measured_alone_and_in_pairs(quadrant_task: Task, tmp_path: Path) -> None:
    class Residual(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            with torch.no_grad():
                self.conv.weight.mul_(scale)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.conv(x)
            return x + y

    torch.manual_seed(0)
    inputs = quadrant_task.train.example(2)
    model = nn.Sequential(nn.Conv2d(inputs[0].shape[1], 4, 3), Residual(1e-3), Residual(3.0),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    program = ew.Program.capture(model, inputs)
    found = measure_damages(make_space(program, SCHEME), quadrant_task, SCHEME, samples=32, seed=0,
                            path=tmp_path / "damages.json")
    assert 0 <= found.blocks["1.conv"] < 1e-3
    assert list(found.pairs) == [("1.conv", "2.conv")]
    again = measure_damages(make_space(program, SCHEME), quadrant_task, SCHEME, samples=32, seed=0,
                            path=tmp_path / "damages.json")
    assert again.pairs == found.pairs
