"""Every stage of a recipe is listed once, in the order in which it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import edgewright as ew
from edgewright.core import Budget
from edgewright.errors import UsageError
from edgewright.goals import Classification
from edgewright.pipeline import Recipe
from edgewright.pipeline.stages import STAGES, Stage, adjust_recipe, check_recipe
from edgewright.training import Training

SHARED = {"name", "distillation"}  # of a recipe's fields, those that configure no stage
WHOLE = Recipe(prune=ew.ChannelPruning(), blocks=ew.BlockPruning(count=1), recover=Training(),
               weights=ew.WeightPruning(), exits=ew.EarlyExits(), quantize=ew.Quantization())


def test_stages_are_in_the_order_of_the_recipes_fields() -> None:
    fields = [name for name in Recipe.model_fields if name not in SHARED]
    assert [stage.name for stage in STAGES] == fields


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_runs_if_the_recipe_has_its_config(stage: Stage[Any]) -> None:
    assert stage.config_of(WHOLE) is getattr(WHOLE, stage.name)
    assert stage.config_of(Recipe()) is None


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_adjusting_does_not_add_a_skipped_stage(
        stage: Stage[Any], trained_program: ew.Program) -> None:
    adjusted = stage.adjust_to(Recipe(), trained_program, Budget(size="90 %", max_drop="1 %"), Classification())
    assert (adjusted.recipe, adjusted.note) == (Recipe(), "")


def test_changes_are_noted_in_the_order_of_the_stages() -> None:
    chain = torch.nn.Sequential(torch.nn.Linear(4, 3))
    program = ew.Program.capture(chain, torch.zeros(2, 4))
    adjusted, changes = adjust_recipe(WHOLE.replace(exits=ew.EarlyExits(places=2)), program, Budget(), Classification())
    assert [change.split()[0] for change in changes] == ["pruning", "blocks", "0"]
    assert (adjusted.prune, adjusted.blocks, adjusted.recover, adjusted.exits) == (None, None, None, None)
    assert adjusted.weights == WHOLE.weights


@pytest.mark.parametrize("recipe", [Recipe(recover=Training()), Recipe(weights=ew.WeightPruning())])
def test_training_stages_raise_for_a_frozen_model(recipe: Recipe,
                                                 trained_program: ew.Program) -> None:
    check_recipe(recipe, trained_program)
    net = torch.nn.Linear(4, 3).requires_grad_(False)
    frozen = ew.Program.capture(net, torch.zeros(2, 4))
    with pytest.raises(UsageError, match="nothing to train"):
        check_recipe(recipe, frozen)
    check_recipe(Recipe(weights=ew.WeightPruning(training=None,
                                                 schedule="one_shot")), frozen)
