"""The stage that sets individual weights to zero."""

from __future__ import annotations

from typing import ClassVar, final

from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._stage import Stage
from edgewright.program import Program
from edgewright.pruning import WeightPruning, prune_weights
from edgewright.training import check_trainable


@final
class Weights(Stage[WeightPruning]):
    """Sets individual weights to zero; later stages keep the zeros."""

    name: ClassVar[str] = "weights"

    def config_of(self, recipe: Recipe) -> WeightPruning | None:
        """Return the recipe's weight pruning."""
        return recipe.weights

    def check(self, program: Program, config: WeightPruning) -> None:
        """Raise if the stage trains and all parameters are frozen."""
        if config.training:
            check_trainable(program.graph_module)

    def describe(self, config: WeightPruning) -> tuple[str, ...]:
        """Describe how many weights become zero, the pattern, and the criterion."""
        return (f"set {config.goal} to zero ({config.pattern}, by {config.criterion})",)

    def run(self, program: Program, config: WeightPruning, context: StageContext) -> Program:
        """Set weights to zero, during a training if there is one."""
        return prune_weights(program, context.task, config,
                             objective=context.objective(config.training), seed=context.seed,
                             checkpoint=context.checkpoint, progress=context.progress())
