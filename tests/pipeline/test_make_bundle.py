"""From a program to a bundle in one call, with and without a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.errors import BundleError, ModelError
from edgewright.program import Program


@pytest.fixture(scope="module")
def task() -> Any:
    x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
    return ew.Task((x, x @ torch.ones(4)), test=(x + 0.1, (x + 0.1) @ torch.ones(4)),
                   goal="regression")


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    return Program.capture(model, torch.randn(2, 4))


def test_without_a_task_the_bundle_runs_and_states_costs_alone(program: Any,
                                                               tmp_path: Path) -> None:
    manifest = ew.make_bundle(program, tmp_path / "net.edge")
    figures = manifest.report.compressed
    assert manifest.model.name == "net"
    assert figures.metric is None
    assert figures["parameters"] == 97
    assert figures["macs"] == 80
    assert figures["size_bytes"] == (tmp_path / "net.edge").stat().st_size
    x = torch.randn(3, 4)
    found = ew.load(tmp_path / "net.edge")(x.numpy()).output
    assert np.allclose(found, program.run(x).numpy(), atol=1e-5)


def test_with_a_task_the_bundle_is_measured_and_verified(program: Any, task: Any,
                                                         tmp_path: Path) -> None:
    quantized = ew.quantize(program, task)
    manifest = ew.make_bundle(quantized, tmp_path / "net.edge", task, name="small")
    report = manifest.report
    assert manifest.model.name == "small"
    assert manifest.model.goal == "regression"
    assert report.parity is not None
    assert report.compressed["latency_ms"] > 0
    assert report.compressed.metric is not None
    assert report.compressed.metric.name == task.metric.name
    assert ew.verify(tmp_path / "net.edge", task)


def test_a_program_with_exits_gets_operating_points(tmp_path: Path) -> None:
    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))
    task = ew.Task((x, (x[:, 0] > 0).long()), test=(x + 0.01, (x[:, 0] > 0).long()))
    layers = [nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)]
    program = Program.capture(nn.Sequential(*layers), x[:2])
    with_exit = ew.add_exits(program, task, ew.EarlyExits(places=1))
    bare = ew.make_bundle(with_exit, tmp_path / "bare.edge")
    assert [rule.threshold for rule in bare.model.default_point.rules] == [None]
    measured = ew.make_bundle(with_exit, tmp_path / "net.edge", task)
    assert measured.model.points[0].figures.metric is not None
    assert ew.verify(tmp_path / "net.edge", task)


def test_a_bundle_without_metrics_cannot_be_verified(program: Any, task: Any,
                                                     tmp_path: Path) -> None:
    ew.make_bundle(program, tmp_path / "net.edge")
    with pytest.raises(BundleError, match="states no metric"):
        ew.verify(tmp_path / "net.edge", task)


def test_outputs_that_do_not_fit_the_goal_are_refused_before_anything_is_written(
        program: Any, tmp_path: Path) -> None:
    x = torch.randn(20, 4)
    task = ew.Task((x, torch.arange(20) % 3), test=(x + 1, torch.arange(20) % 3))
    with pytest.raises(ModelError):
        ew.make_bundle(program, tmp_path / "net.edge", task)
    assert not list(tmp_path.iterdir())


def test_weights_are_loaded_into_a_new_program(program: Any) -> None:
    weights = {name: torch.zeros_like(value) for name, value in program.state_dict().items()}
    loaded = program.load_state_dict(weights)
    assert not loaded.run(torch.randn(2, 4)).any()
    assert program.run(torch.randn(2, 4)).any()
