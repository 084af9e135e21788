"""Stages that only cost, or do harm: what they did is not kept, and the record says so."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import edgewright as ew
from edgewright.exits import ExitCalibration, ExitCostModel, HeadTraining
from edgewright.pipeline import Recipe
from edgewright.pipeline._directory import RunDirectory
from edgewright.pipeline._run_log import RunLog
from edgewright.pipeline._run_stages import run_stages
from edgewright.pipeline.stages import StageContext
from edgewright.task import Task
from edgewright.training import Training


def test_exits_that_are_no_longer_worthwhile_are_skipped(trained_program: ew.Program, quadrant_task: Task,
                                               tmp_path: Path) -> None:
    recipe = Recipe(exits=ew.EarlyExits(cost_model=ExitCostModel(overhead=1.0), training=None))
    said: list[str] = []

    class Listening(RunLog):  # type: ignore[misc]
        def note(self, text: str) -> None:
            said.append(text)

    directory = RunDirectory.open(tmp_path, {})
    results = run_stages(StageContext(trained_program, quadrant_task, recipe, 0, directory,
                                      Listening(quiet=True)))
    assert results.program.exits == 0
    assert "early exits left out: none is expected to save more than it costs" in said


def test_exits_that_too_few_samples_could_calibrate_are_left_out(
        trained_program: ew.Program, quadrant_task: Task, tmp_path: Path) -> None:
    train, val = quadrant_task.train, quadrant_task.val.select(range(49))
    task = Task(train, val, quadrant_task.test)
    results = run_stages(StageContext(
        trained_program, task, Recipe(exits=ew.EarlyExits(places=1, training=None)), 0,
        RunDirectory.open(tmp_path, {}), RunLog(quiet=True)))
    assert results.program.exits == 0
    assert results.records[-1].notes == (
        "early exits left out: the val split has 49 samples, they need 50 or more to be calibrated on",)


def test_stages_that_lower_accuracy_or_only_add_cost_are_reverted(tmp_path: Path) -> None:
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
                       compute="cpu")
    recipe = Recipe(recover=ruinous, exits=ew.EarlyExits(
        places=1, calibration=ExitCalibration(max_drop=1e-4, confidence_level=0.999),
        training=HeadTraining(settings=Training(epochs=1, compute="cpu"))))
    result = ew.compress(model, task, recipe=recipe, out=tmp_path / "run", quiet=True)
    notes = {stage.name: " ".join(stage.notes) for stage in result.manifest.report.stages}
    assert "no epoch was as good as the initial weights" in notes["recover"]
    assert "exits removed again: no validation sample can take one" in notes["exits"]
    assert len(result.manifest.model.segments) == 1
    assert result.program.exits == 0
    torch.testing.assert_close(result.program.run(x), model.eval()(x))
    page = result.report.read_text()
    assert "exits removed again" in page
    again = ew.compress(model, task, recipe=recipe, out=tmp_path / "run", quiet=True)
    assert again.program.exits == 0
    assert again.manifest == result.manifest
