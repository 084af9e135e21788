"""The exception tree, one exit code a class.

EdgewrightError                 1
├── UsageError                  2   the command line or a call's arguments are off
├── BudgetError                 3   the bundle was written, but a limit is not held
├── ParityError                 4   the file does not compute what was promised
├── InputError                  5   what was handed in cannot be used
│   ├── ModelError                  a model, its weights or its graph
│   ├── DataError                   a dataset, a split, a sample
│   ├── TrainingError               a training run that diverged
│   ├── BundleError                 a bundle that is truncated, altered or too new
│   ├── SensorError                 a sensor of the device that gives no reading
│   └── StorageError                a run directory or a disk that cannot take the result
└── MissingExtraError           6   an optional dependency is not installed

EdgewrightWarning is what `warnings` tells of besides.
"""

from __future__ import annotations

from typing import ClassVar


class EdgewrightError(Exception):
    """Base of every error Edgewright raises on purpose.

    Its message says what failed, the value, what was expected and what to do.
    """

    exit_code: ClassVar[int] = 1


class UsageError(EdgewrightError):
    """The arguments of a command or a call are off."""

    exit_code = 2


class BudgetError(EdgewrightError):
    """A limit of the budget is not held; the constraint that binds is named."""

    exit_code = 3


class ParityError(EdgewrightError):
    """The exported file does not compute what the program or the manifest says."""

    exit_code = 4


class InputError(EdgewrightError):
    """What was handed in cannot be used."""

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
    """A sensor of the device that gives no reading."""


class StorageError(InputError):
    """A run directory that holds something else, or a disk that cannot take the result."""


class MissingExtraError(EdgewrightError):
    """An optional dependency is missing; the message holds the install line."""

    exit_code = 6

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra that is not installed; run: "
                         f"pip install 'edgewright[{extra}]'")


class EdgewrightWarning(UserWarning):
    """What the caller should know though nothing has failed."""
