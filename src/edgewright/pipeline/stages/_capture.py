"""The first stage: the captured program, and how the recipe was adjusted to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from edgewright.pipeline._recipe import Recipe
from edgewright.pipeline.stages._context import StageContext
from edgewright.pipeline.stages._stage import Stage
from edgewright.program import Program


@final
@dataclass(frozen=True)
class Capture(Stage[Recipe]):
    """Stores the original in the run directory.

    Attributes:
        changes: Notes on how the recipe differs from the requested one.
    """

    changes: tuple[str, ...]
    name: ClassVar[str] = "capture"

    def config_of(self, recipe: Recipe) -> Recipe:
        """Return the whole recipe; this stage is never skipped."""
        return recipe

    def describe(self, config: Recipe) -> tuple[str, ...]:  # noqa: ARG002 - as others do
        """Describe how the recipe was changed to fit."""
        return self.changes

    def run(self, program: Program, config: Recipe, context: StageContext) -> Program:  # noqa: ARG002 - as others do
        """Return the program unchanged."""
        return program
