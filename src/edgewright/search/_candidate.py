"""What is to be built, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pydantic import Field

from edgewright.core import Figures, Value
from edgewright.errors import EdgewrightError
from edgewright.pipeline import ExitChoice, Recipe
from edgewright.search._trial import Proposal


@final
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

    def facts(self) -> dict[str, Any]:
        """What its trial keeps of it."""
        return {name: value for name, value in self if name != "scores_stages"}

    def folder(self, root: Path) -> Path:
        """Its directory in a search's directory."""
        return root / "trials" / self.name


@final
@dataclass(frozen=True)
class Built:
    """A candidate whose file is in its directory, not timed yet.

    Attributes:
        figures: Measured on its file: metrics on the validation split, size.
        score: What candidates are compared by; higher is better.
        seconds: Time that building took.
        exits: What was decided about its exits; None without any.
    """

    figures: Figures
    score: float
    seconds: float
    exits: ExitChoice | None = None


@final
@dataclass(frozen=True)
class Failure:
    """A candidate that could not be built.

    Attributes:
        reason: Why, in one line.
    """

    reason: str


def attempt(build: Callable[[], Built]) -> Built | Failure:
    """Build a candidate; whatever it raises is its failure, and no other candidate's.

    A candidate runs the user's data and goal, and libraries that report a lack of memory by errors
    of their own. So every exception counts, but an interrupt does not.

    Example:
        >>> attempt(lambda: 1 // 0)
        Failure(reason='ZeroDivisionError: integer division or modulo by zero')
    """
    try:
        return build()
    except EdgewrightError as error:
        return Failure(_one_line(str(error)))
    except Exception as error:  # noqa: BLE001 - see above
        return Failure(_one_line(f"{type(error).__name__}: {error}"))


def _one_line(text: str) -> str:
    return " ".join(text.split())
