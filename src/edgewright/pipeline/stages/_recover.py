"""The stage that trains the pruned program."""

from __future__ import annotations

from typing import ClassVar, final

from edgewright.distill import fit
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._stage import Stage
from edgewright.program import Program
from edgewright.training import Training, check_trainable


@final
class Recover(Stage[Training]):
    """Trains the pruned program with the run's teacher, the original unless another is given.

    `Prune` removes it from a recipe if pruning is skipped.
    """

    name: ClassVar[str] = "recover"

    def config_of(self, recipe: Recipe) -> Training | None:
        """Return the training after pruning."""
        return recipe.recover

    def check(self, program: Program, config: Training) -> None:  # noqa: ARG002 - as others do
        """Raise if all parameters are frozen."""
        check_trainable(program.graph_module)

    def run(self, program: Program, config: Training, context: StageContext) -> Program:
        """Train, or resume an interrupted training."""
        return fit(program, context.task, config, teacher=context.teacher,
                   distillation=context.recipe.distillation, seed=context.seed,
                   checkpoint=context.checkpoint, progress=context.progress())
