"""The stage that sets single weights to zero."""

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
    """Sets single weights to zero, which every later stage keeps."""

    name: ClassVar[str] = "weights"

    def config_of(self, recipe: Recipe) -> WeightPruning | None:
        """Return the recipe's weight pruning."""
        return recipe.weights

    def check(self, program: Program, config: WeightPruning) -> None:
        """Refuse a model that is wholly frozen if the stage trains."""
        if config.training:
            check_trainable(program.graph_module)

    def describe(self, config: WeightPruning) -> tuple[str, ...]:
        """Describe how many weights become zero, in which pattern and by which criterion."""
        return (f"set {config.goal} to zero ({config.pattern}, by {config.criterion})",)

    def run(self, program: Program, config: WeightPruning, context: StageContext) -> Program:
        """Set weights to zero, in the course of a training if there is one."""
        return prune_weights(program, context.task, config,
                             objective=context.objective(config.training), seed=context.seed,
                             checkpoint=context.checkpoint, progress=context.progress())
