"""The base class of the stages of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar, final

from edgewright.core import Budget
from edgewright.goals import Goal
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._context import StageContext
from edgewright.program import Program

Config = TypeVar("Config")


@final
@dataclass(frozen=True)
class AdjustedRecipe:
    """A recipe that was adjusted to one model and one budget.

    Attributes:
        recipe: The recipe to run.
        note: A note of the change; empty if nothing was changed.
    """

    recipe: Recipe
    note: str = ""


class Stage(ABC, Generic[Config]):
    """One step of a run, from a program to a program.

    A stage is stateless: its behavior depends on its config in the recipe, its input program and
    the context. The methods are called in the order of their definition. A new stage implements
    the abstract methods, overrides others as needed, and is added to `STAGES`.

    Attributes:
        name: Unique name in records and in file names of the run directory.
        adjusts_last: Whether it adjusts the recipe after all other stages, because it covers what
            they leave above the budget.
    """

    name: ClassVar[str]
    adjusts_last: ClassVar[bool] = False

    @abstractmethod
    def config_of(self, recipe: Recipe) -> Config | None:
        """Return the stage's config in a recipe; None skips the stage."""

    def check(self, program: Program, config: Config) -> None:
        """Raise if the stage cannot process a model, before anything is adjusted or written.

        Raises:
            UsageError: The model does not suit the stage's config.
        """

    def adjust_to(self, recipe: Recipe, program: Program, budget: Budget,  # noqa: ARG002
               goal: Goal) -> AdjustedRecipe:  # noqa: ARG002
        """Fit the stage to a model and a budget; also called if the recipe skips the stage.

        Args:
            recipe: The recipe as adjusted by the previous stages.
            program: The original.
            budget: The budget of the run.
            goal: The task's goal.

        Returns:
            The recipe with the necessary changes, and a note of them.

        Raises:
            BudgetError: The stage cannot bring this model within a limit.
            UsageError: The config is invalid or does not fit the model.
        """
        return AdjustedRecipe(recipe)

    def describe(self, config: Config) -> tuple[str, ...]:  # noqa: ARG002
        """Describe what the stage will do, as notes for the record."""
        return ()

    @abstractmethod
    def run(self, program: Program, config: Config, context: StageContext) -> Program:
        """Return a new program; the input program is not modified."""

    def describe_result(self, before: Program, after: Program, config: Config,  # noqa: ARG002
                        context: StageContext) -> tuple[str, ...]:  # noqa: ARG002
        """Describe the result, as notes for the record."""
        return ()
