"""Stages that only cost, or do harm: what they did is not kept, and the record says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.pipeline import Recipe
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._narrator import Narrator
from edgewright.pipeline._stages import Stages
from edgewright.task import Task
from edgewright.training import Training


def test_exits_that_no_longer_pay_are_left_out(trained_program: ew.Program, quadrant_task: Task,
                                               tmp_path: Path) -> None:
    recipe = Recipe(exits=ew.EarlyExits(overhead=1.0, training=None))
    said: list[str] = []

    class Listening(Narrator):
        def note(self, text: str) -> None:
            said.append(text)

    directory = RunDirectory.open(tmp_path, {})
    stages = Stages(trained_program, quadrant_task, recipe, (), 0, directory,
                    Listening(quiet=True))
    staged = stages.run()
    assert staged.program.exits == 0
    assert "early exits left out: none promises to save more than it costs" in said


def test_what_harms_or_only_costs_is_not_kept(tmp_path: Path) -> None:
    """A recovery that ruins the network, and exits that no sample may leave by."""
    torch.manual_seed(0)
    x = torch.randn(300, 16)
    y = x[:, :3].argmax(1)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
                          nn.Linear(32, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:100]), y[:100]).backward()
        optimizer.step()
    model.zero_grad()
    task = Task((x[:100], y[:100]), (x[100:200], y[100:200]), (x[200:], y[200:]))
    ruinous = Training(epochs=1, lr=50.0, weight_decay=0.04, schedule="constant",  # w <- -w
                       accelerator="cpu")
    recipe = Recipe(recover=ruinous, exits=ew.EarlyExits(
        count=1, max_drop=1e-4, confidence=0.999, backbone="freeze",
        training=Training(epochs=1, accelerator="cpu")))
    result = ew.compress(model, task, recipe=recipe, out=tmp_path / "run", quiet=True)
    notes = {stage.name: " ".join(stage.notes) for stage in result.manifest.stages}
    assert "no epoch was as good as the weights given" in notes["recover"]
    assert "exits taken off again: no validation sample would leave by one" in notes["exits"]
    assert len(result.manifest.segments) == 1
    assert result.program.exits == 0
    torch.testing.assert_close(result.program.run(x), model.eval()(x))
    page = result.report.read_text()
    assert "exits taken off again" in page
    again = ew.compress(model, task, recipe=recipe, out=tmp_path / "run", quiet=True)
    assert again.program.exits == 0
    assert again.manifest == result.manifest


def test_refinements_that_lower_the_accuracy_are_left_out(
        trained_program: ew.Program, quadrant_task: Task, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(program: ew.Program, task: Task, config: ew.Quantization,
               **settings: Any) -> ew.Program:
        if config.method.equalize:  # as if it had made the ranges worse
            program = program.with_state({name: value * 0 if value.is_floating_point() else value
                                          for name, value in program.state_dict().items()})
        return ew.quantize(program, task, config, **settings)

    monkeypatch.setattr("edgewright.pipeline._stages.quantize", spoilt)
    recipe = Recipe(quantize=ew.Quantization(method=ew.PTQ(equalize=True), calibration_samples=64))
    stages = Stages(trained_program, quadrant_task, recipe, (), 0,
                    RunDirectory.open(tmp_path, {}), Narrator(quiet=True))
    record = stages.run().records[-1]
    assert record.figures["accuracy"] > 0.8
    assert "equalize left out: accuracy " in record.notes[-1]
