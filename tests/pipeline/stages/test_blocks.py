"""A recipe's block stage: run, recorded, and left out where there is nothing to remove."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import edgewright as ew
from edgewright.core import Budget
from edgewright.errors import UsageError
from edgewright.goals import Classification
from edgewright.pipeline import Recipe
from edgewright.pipeline.stages import adjust_recipe, check_recipe
from edgewright.program import Program
from edgewright.task import Task
from edgewright.training import Training

SHORT = Training(epochs=1, batch_size=32, lr=0.02, augment=False)


def test_blocks_go_between_channels_and_recovery(trained_net: nn.Module, quadrant_task: Task,
                                                 tmp_path: Path) -> None:
    recipe = Recipe(prune=ew.ChannelPruning(ratio=0.3), blocks=ew.BlockPruning(count=1),
                    recover=SHORT)
    result = ew.compress(trained_net, quadrant_task, recipe=recipe, out=tmp_path / "run",
                         quiet=True)
    stages = {stage.name: stage for stage in result.manifest.report.stages}
    assert list(stages) == ["capture", "prune", "blocks", "recover"]
    assert stages["blocks"].notes == ("remove 1 block",)
    assert stages["blocks"].figures["macs"] < stages["prune"].figures["macs"]
    assert not any(name.startswith("one.") for name in result.program.state_dict())


def test_the_stage_is_skipped_with_a_note(quadrant_task: Task) -> None:
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4))
    program = Program.capture(model, torch.zeros(1, 1, 8, 8))
    adjusted, notes = adjust_recipe(Recipe(blocks=ew.BlockPruning(count=1)), program, Budget(), Classification())
    assert adjusted.blocks is None
    assert notes == ("blocks left out: the graph has no residual branches",)


def test_recovery_stays_if_only_blocks_are_removed(trained_net: nn.Module) -> None:
    program = Program.capture(trained_net, torch.zeros(1, 1, 8, 8))
    recipe = Recipe(prune=ew.ChannelPruning(ignore=("stem", "one", "two")),
                    blocks=ew.BlockPruning(count=1), recover=SHORT)
    adjusted, (note,) = adjust_recipe(recipe, program, Budget(), Classification())
    assert adjusted.prune is None
    assert adjusted.recover is SHORT
    assert note.startswith("pruning left out: only 0.0 % of the MACs can be removed")


def test_a_recipe_with_blocks_round_trips(tmp_path: Path) -> None:
    recipe = Recipe(blocks=ew.BlockPruning(ratio=0.2, max_drop=0.01, ignore=("layer1",)))
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert Recipe.load(tmp_path / "r.yaml") == recipe
    recipe = Recipe(blocks=ew.BlockPruning(remove=("layer1.0", "{a.0,b.0}")))
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert Recipe.load(tmp_path / "r.yaml") == recipe


def test_unknown_names_are_refused_before_the_run(trained_program: Program) -> None:
    check_recipe(Recipe(blocks=ew.BlockPruning(remove=("one",))), trained_program)
    with pytest.raises(UsageError, match="'onee' is no branch of this program; did you mean 'one'"):
        check_recipe(Recipe(blocks=ew.BlockPruning(remove=("onee",))), trained_program)
