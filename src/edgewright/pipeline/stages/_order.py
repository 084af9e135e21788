"""The stages in their order, and adjusting a recipe to a model."""

from __future__ import annotations

from typing import Any, Final

from edgewright.core import Budget
from edgewright.goals import Goal
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._blocks import Blocks
from edgewright.pipeline.stages._exits import Exits
from edgewright.pipeline.stages._prune import Prune
from edgewright.pipeline.stages._quantize import Quantize
from edgewright.pipeline.stages._recover import Recover
from edgewright.pipeline.stages._stage import Stage
from edgewright.pipeline.stages._weights import Weights
from edgewright.program import Program

STAGES: Final[tuple[Stage[Any], ...]] = (
    Prune(), Blocks(), Recover(), Weights(), Exits(), Quantize())


def check_recipe(recipe: Recipe, program: Program) -> None:
    """Raise if one of a recipe's stages cannot process the model.

    Raises:
        UsageError: All parameters are frozen and a stage trains.
    """
    for stage in STAGES:
        if (config := stage.config_of(recipe)) is not None:
            stage.check(program, config)


def adjust_recipe(recipe: Recipe, program: Program, budget: Budget,
               goal: Goal) -> tuple[Recipe, tuple[str, ...]]:
    """Fit a recipe to a model and a budget: skip impossible stages, adapt the pruning ratio.

    Returns:
        The recipe to run, and a note of each change, in the order of the stages.

    Raises:
        BudgetError: Even the smallest program of this model breaks a limit.
        UsageError: A stage's config is invalid, or does not fit the model.

    Example:
        >>> import torch
        >>> from edgewright.goals import Classification
        >>> from edgewright.pruning import BlockPruning
        >>> program = Program.capture(torch.nn.Linear(4, 2), torch.zeros(1, 4))
        >>> recipe = Recipe(blocks=BlockPruning(count=1))
        >>> adjusted, changes = adjust_recipe(recipe, program, Budget(), Classification())
        >>> adjusted.blocks, changes
        (None, ('blocks left out: the graph has no residual branches',))
    """
    notes: dict[str, str] = {}
    for stage in sorted(STAGES, key=lambda stage: stage.adjusts_last):
        adjusted = stage.adjust_to(recipe, program, budget, goal)
        recipe, notes[stage.name] = adjusted.recipe, adjusted.note
    return recipe, tuple(notes[stage.name] for stage in STAGES if notes[stage.name])
