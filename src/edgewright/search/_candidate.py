"""What is to be built, and what it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import final

from pydantic import Field

from edgewright.core import Value
from edgewright.pipeline import Recipe


@final
class Factors(Value):
    """How a proposal weighs the predicted damages against each other.

    Attributes:
        blocks: Factor on the damage of removing blocks; below 1, more blocks are removed.
        widths: Factor on the damage of narrowing groups.
        shrink: Largest predicted size, as a share of that of the quantized original, if the budget
            limits no cost.
    """

    blocks: float = Field(default=1.0, gt=0)
    widths: float = Field(default=1.0, gt=0)
    shrink: float = Field(default=1.0, gt=0, le=1)


@final
class Proposal(Value):
    """What a candidate was made from.

    Attributes:
        number: Its number in the storage.
        factors: The factors.
    """

    number: int
    factors: Factors


class Candidate(Value):
    """A candidate to be built.

    Attributes:
        name: Its directory below ``trials``.
        recipe: How it is made.
        proposal: What it was made from; None for the quantized original.
        predicted: Predicted costs, by the name of the limit.
        round: Its round of the race, from 1; 0 outside of it.
        planning_seconds: Time that asking for its proposal and solving the program took.
        scores_stages: Whether what every stage made is measured, which takes time.
    """

    name: str
    recipe: Recipe
    proposal: Proposal | None = None
    predicted: dict[str, float] = Field(default_factory=dict)
    round: int = 0
    planning_seconds: float = 0.0
    scores_stages: bool = False

    def folder(self, root: Path) -> Path:
        """Its directory in a search's directory."""
        return root / "trials" / self.name
