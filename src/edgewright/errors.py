"""The exception tree, one exit code per class.

EdgewrightError                 1
├── UsageError                  2   invalid arguments of a command or a call
├── BudgetError                 3   the bundle was written but exceeds the budget
├── ParityError                 4   the file's outputs or metrics differ from the expected ones
├── InputError                  5   an input cannot be used
│   ├── ModelError                  a model, its weights or its graph
│   ├── DataError                   a dataset, a split, a sample
│   ├── TrainingError               a training run that diverged
│   ├── BundleError                 a bundle that is truncated, altered or of another format
│   ├── SensorError                 a device sensor without a reading
│   └── StorageError                a run directory or disk that cannot store the result
└── MissingExtraError           6   an optional dependency is not installed

EdgewrightWarning is the category of Edgewright's warnings.
"""

from __future__ import annotations

from typing import ClassVar


class EdgewrightError(Exception):
    """Base of every error Edgewright raises on purpose.

    Its message says what failed, the value, what was expected and what to do.
    """

    exit_code: ClassVar[int] = 1


class UsageError(EdgewrightError):
    """Invalid arguments of a command or a call."""

    exit_code = 2


class BudgetError(EdgewrightError):
    """A limit of the budget is not met; the message names it."""

    exit_code = 3


class ParityError(EdgewrightError):
    """The exported file's results differ from the program's or from the manifest."""

    exit_code = 4


class InputError(EdgewrightError):
    """An input cannot be used."""

    exit_code = 5


class ModelError(InputError):
    """A model that cannot be loaded, captured, rewritten or exported."""


class DataError(InputError):
    """A dataset, a split or a sample that cannot be used."""


class TrainingError(InputError):
    """A training run that diverged."""


class BundleError(InputError):
    """A bundle that is truncated, altered, or of a format this version cannot read."""


class SensorError(InputError):
    """A device sensor without a reading."""


class StorageError(InputError):
    """A run directory of another run, or a disk that cannot store the result."""


class MissingExtraError(EdgewrightError):
    """An optional dependency is missing; the message has the install command."""

    exit_code = 6

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra that is not installed; run: "
                         f"pip install 'edgewright[{extra}]'")


class EdgewrightWarning(UserWarning):
    """A problem that the caller should know of, though nothing failed."""
