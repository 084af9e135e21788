"""The stage that adds early exits."""

from __future__ import annotations

from typing import ClassVar, final

from edgewright.core import Budget
from edgewright.exits import (
    MIN_CALIBRATION_SAMPLES,
    EarlyExits,
    add_exits,
    cut_at,
    fit_exits,
    limit_exits,
)
from edgewright.goals import Goal
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._stage import AdjustedRecipe, Stage
from edgewright.program import Program, check_fixed_sizes


@final
class Exits(Stage[EarlyExits]):
    """Adds early exits and trains them."""

    name: ClassVar[str] = "exits"

    def config_of(self, recipe: Recipe) -> EarlyExits | None:
        """Return the recipe's early exits."""
        return recipe.exits

    def check(self, program: Program, config: EarlyExits) -> None:  # noqa: ARG002
        """Raise `ModelError` for inputs of varying size."""
        check_fixed_sizes(program, "early exits")

    def adjust_to(self, recipe: Recipe, program: Program, budget: Budget,
               goal: Goal) -> AdjustedRecipe:
        """Limit the number of exits to the places in the graph, and the drop to the budget's.

        Exits are left out if the goal has no confidence, or the program has routes.

        Raises:
            UsageError: The exits' policy does not fit the goal.
        """
        exits, note = recipe.exits, ""
        if exits is not None:
            exits, note = fit_exits(program, goal, exits)
        if exits is not None and budget.max_drop is not None:
            exits = exits.limit_drop(budget.max_drop.value)
        return AdjustedRecipe(recipe.replace(exits=exits), note)

    def describe(self, config: EarlyExits) -> tuple[str, ...]:
        """Describe where the network is cut, if the recipe says so."""
        return (f"cut the network at exit {config.cut}",) if isinstance(config.cut, int) else ()

    def run(self, program: Program, config: EarlyExits, context: StageContext) -> Program:
        """Add the exits that are still worthwhile for the current program; possibly none.

        There are none either if the validation split is too small to choose thresholds on.
        """
        samples, needed = len(context.task.val), 0 if config.cut == 1 else MIN_CALIBRATION_SAMPLES
        exits, note = limit_exits(program, config) if samples >= needed else (
            None, f"early exits left out: the val split has {samples} samples, they need "
                  f"{needed} or more to be calibrated on")
        if note:
            context.record_decision(note)
        if exits is None:
            return program
        training = exits.training
        staged = add_exits(program, context.task, exits,
                           objective=context.objective(training and training.settings),
                           seed=context.seed, checkpoint=context.checkpoint,
                           progress=context.progress())
        return cut_at(staged, exits.cut) if isinstance(exits.cut, int) else staged
