"""What came of building a candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from edgewright.core import Figures
from edgewright.errors import EdgewrightError
from edgewright.pipeline import ExitChoice


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
