"""The stage that removes residual branches."""

from __future__ import annotations

from typing import ClassVar, final

from edgewright.channels import find_branches, resolve_branches
from edgewright.core import Budget, format_skip_reasons
from edgewright.goals import Goal
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._stage import AdjustedRecipe, Stage
from edgewright.program import Program
from edgewright.pruning import BlockPruning, find_unfitted_layers, prune_blocks


@final
class Blocks(Stage[BlockPruning]):
    """Removes whole residual branches, after the channels."""

    name: ClassVar[str] = "blocks"

    def config_of(self, recipe: Recipe) -> BlockPruning | None:
        """Return the recipe's block pruning."""
        return recipe.blocks

    def check(self, program: Program, config: BlockPruning) -> None:
        """Refuse names of branches that the program does not have."""
        resolve_branches(program, config.remove)

    def adjust_to(self, recipe: Recipe, program: Program, budget: Budget,  # noqa: ARG002 - as others do
               goal: Goal) -> AdjustedRecipe:  # noqa: ARG002 - as others do
        """Skip the stage if the graph has no residual branch."""
        if recipe.blocks is None or find_branches(program):
            return AdjustedRecipe(recipe)
        return AdjustedRecipe(recipe.replace(blocks=None),
                              "blocks left out: the graph has no residual branches")

    def describe(self, config: BlockPruning) -> tuple[str, ...]:
        """Describe what the stage removes, or when it stops."""
        return (config.goal,)

    def run(self, program: Program, config: BlockPruning, context: StageContext) -> Program:
        """Remove the branches whose removal costs least, or those that are named."""
        return prune_blocks(program, context.task, config, seed=context.seed)

    def describe_result(self, before: Program, after: Program, config: BlockPruning,
                        context: StageContext) -> tuple[str, ...]:  # noqa: ARG002 - as others do
        """Name the layers whose input changed and that could not be fitted."""
        if config.refit is False:
            return ()
        skipped = find_unfitted_layers(before, after)
        reasons = format_skip_reasons(skipped)
        return (f"not fitted after blocks were removed: {reasons}",) if skipped else ()
