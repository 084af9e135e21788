"""The stage before all others: the captured program, and how the recipe was fitted to it."""

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
    """Keeps the original in the run directory.

    Attributes:
        changes: How the recipe that runs differs from the one that was asked for, in words.
    """

    changes: tuple[str, ...]
    name: ClassVar[str] = "capture"

    def config_of(self, recipe: Recipe) -> Recipe:
        """Return the whole recipe; no recipe leaves the capture out."""
        return recipe

    def describe(self, config: Recipe) -> tuple[str, ...]:  # noqa: ARG002 - as others do
        """Describe how the recipe was changed to fit."""
        return self.changes

    def run(self, program: Program, config: Recipe, context: StageContext) -> Program:  # noqa: ARG002 - as others do
        """Return the program as it is."""
        return program
