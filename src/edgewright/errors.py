"""The exception tree, one exit code per class.

EdgewrightError                 1
├── UsageError                  2   invalid arguments of a command or a call
│   └── SettingsError               settings or limits; it lists every fault
├── BudgetError                 3   the bundle was written but exceeds the budget
├── ParityError                 4   the file's outputs or metrics differ from the expected ones
├── InputError                  5   an input cannot be used
│   ├── ModelError                  a model, its weights or its graph
│   ├── DataError                   a dataset, a split, a sample
│   ├── TrainingError               a training run that diverged
│   ├── BundleError                 a bundle that is truncated, altered or of another format
│   ├── SensorError                 a device sensor without a reading
│   └── StorageError                a run directory or disk that cannot store the result
├── MissingExtraError           6   an optional dependency is not installed
└── MissingToolError            6   a program outside Python is not installed

EdgewrightWarning is the category of Edgewright's warnings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NamedTuple


class EdgewrightError(Exception):
    """Base of every error Edgewright raises on purpose.

    Its message says what failed, the value, what was expected and what to do.
    """

    exit_code: ClassVar[int] = 1


class UsageError(EdgewrightError, ValueError):
    """Invalid arguments of a command or a call."""

    exit_code = 2


class Fault(NamedTuple):
    """What is wrong with one setting.

    Attributes:
        path: Names and indices that lead to the setting from the outermost value.
        text: What is wrong, and what to do.

    Example:
        >>> str(Fault(("quantize", "wieghts"), "unknown setting; did you mean weights?"))
        'quantize.wieghts: unknown setting; did you mean weights?'
    """

    path: tuple[str | int, ...]
    text: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path))}: {self.text}" if self.path else self.text

    def below(self, *path: str | int) -> Fault:
        """The fault as seen from further outside.

        Args:
            path: What leads from there to the value that the fault's path starts at.
        """
        return self._replace(path=(*path, *self.path))


class SettingsError(UsageError):
    """Faults of settings or of limits, one line of the message each.

    Args:
        faults: The faults, in the order of the lines.
        places: Where each one is, such as ``Recipe`` or ``recipes/a.yaml:7``; empty for a fault
            that says so itself.

    Attributes:
        faults: The faults.

    Example:
        >>> print(SettingsError([Fault(("ration",), "unknown setting"), Fault(("seed",), "got -1")],
        ...                     ["a.yaml:1", "a.yaml:7"]))
        a.yaml:1: ration: unknown setting
        a.yaml:7: seed: got -1
    """

    def __init__(self, faults: Iterable[Fault], places: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(": ".join(filter(None, (place, str(fault))))
                                   for place, fault in zip(places, self.faults, strict=True)))


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


class MissingToolError(EdgewrightError):
    """A program outside Python is missing; the message has the install command."""

    exit_code = 6

    def __init__(self, what: str, packages: str) -> None:
        super().__init__(f"{what} needs programs that are not installed; on Debian and Ubuntu, "
                         f"run: apt-get install {packages}")


class EdgewrightWarning(UserWarning):
    """A problem that the caller should know of, though nothing failed."""
