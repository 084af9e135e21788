"""What a run knows of each of its stages, in one place per stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar, final

from edgewright.core import Budget
from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._context import StageContext
from edgewright.program import Program

Config = TypeVar("Config")


@final
@dataclass(frozen=True)
class FittedRecipe:
    """A recipe that fits one model and one budget.

    Attributes:
        recipe: As it is to be run.
        note: What was changed, in words; empty if nothing was.
    """

    recipe: Recipe
    note: str = ""


class Stage(ABC, Generic[Config]):
    """One step of a run, from a program to a program.

    A stage has no state: what it does follows from its config in the recipe, the program it is
    given and the context. The methods are called in the order in which they stand here. A new
    stage defines the abstract ones, overrides of the others what it needs, and takes its place in
    `STAGES`.

    Attributes:
        name: In records and in file names of the run directory; unique.
        fits_last: Whether it is fitted after the stages that are not, because it makes up for
            what they leave above the budget.
    """

    name: ClassVar[str]
    fits_last: ClassVar[bool] = False

    @abstractmethod
    def config_of(self, recipe: Recipe) -> Config | None:
        """Return the stage's config in a recipe; None if the recipe leaves the stage out."""

    def check(self, program: Program, config: Config) -> None:
        """Refuse a model that the stage cannot work on, before anything is fitted or written.

        Raises:
            UsageError: The model cannot go through this stage as configured.
        """

    def fit_to(self, recipe: Recipe, program: Program, budget: Budget) -> FittedRecipe:  # noqa: ARG002
        """Fit the stage to a model and a budget; called also if the recipe leaves it out.

        Args:
            recipe: As the stages fitted before have left it.
            program: The original.
            budget: Of the run.

        Returns:
            The recipe with the changes that are needed, and a note of them.

        Raises:
            BudgetError: The stage cannot bring this model within a limit.
            UsageError: The config breaks a rule or does not fit the model.
        """
        return FittedRecipe(recipe)

    def describe(self, config: Config) -> tuple[str, ...]:  # noqa: ARG002
        """Describe what the stage is going to do, in notes for the record."""
        return ()

    @abstractmethod
    def run(self, program: Program, config: Config, context: StageContext) -> Program:
        """Return the program that the stage makes of the one it is given, which stays as it is."""

    def describe_result(self, before: Program, after: Program, config: Config,  # noqa: ARG002
                        context: StageContext) -> tuple[str, ...]:  # noqa: ARG002
        """Describe what has come of it, in notes for the record."""
        return ()
