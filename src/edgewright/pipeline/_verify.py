"""`verify`: run a bundle again and compare its metrics with its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgewright.bundle import read_bundle
from edgewright.core import FigureName, Figures, Manifest
from edgewright.errors import BundleError, DataError, ParityError
from edgewright.pipeline._judge import judge
from edgewright.runtime import Session
from edgewright.task import Task

# Absolute for the accuracy (a tenth of a point, or two samples where that is more: rounding differs
# between processors), relative for what follows from how many samples leave at each exit.
TOLERANCES: Final[dict[FigureName, float]] = {"accuracy": 0.001, "macs": 0.02, "energy_mj": 0.02}
_SAMPLES: Final = 2


@dataclass(frozen=True)
class Check:
    """One figure: what the manifest says, what was measured, and how far they may differ.

    Attributes:
        point: The operating point it is of; None for the default.
    """

    figure: FigureName
    stated: float
    measured: float
    allowed: float
    point: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the two are within the tolerance; never where one is NaN."""
        return abs(self.measured - self.stated) <= self.allowed + 1e-12

    def __str__(self) -> str:
        of = "" if self.point is None else f" at {self.point}"
        return (f"{self.figure}{of}: the manifest says {self.stated:.6g}, measured "
                f"{self.measured:.6g} (tolerance {self.allowed:.2g})")


def verify(path: str | Path, task: Task) -> tuple[Check, ...]:
    """Measure a bundle on a task's test split and compare with its manifest.

    Accuracy, mean multiply-accumulates and energy of every operating point are measured again;
    that no byte of the file was damaged is seen as it is read.

    Raises:
        BundleError: The file is damaged, or states no accuracy to be held to.
        DataError: The data does not fit the bundle's inputs, has other classes, or is not as many
            samples as the manifest's accuracy was taken on.
        ParityError: A figure is not what the manifest says; each is named with its tolerance.
    """
    bundle = read_bundle(path)
    session = Session(bundle)
    manifest = bundle.manifest
    stated = {point.name: point.figures for point in session.points}
    stated[session.points[0].name] = manifest.report.compressed
    _check_comparable(path, manifest, stated, task)
    checks: list[Check] = []
    for name, said in stated.items():
        session.point = name
        found, _ = judge(session, task.test)
        shown = None if name == session.points[0].name else name
        checks.extend(_checks(said, found, len(task.test), shown))
    broken = [str(check) for check in checks if not check.holds]
    if broken:
        raise ParityError(f"{path}: metrics deviate from the manifest on the test split of "
                          f"{task.name}: {'; '.join(broken)}; the bundle was altered, or the data "
                          "differs")
    return tuple(checks)


def _checks(said: Figures, found: Figures, samples: int, point: str | None) -> Iterator[Check]:
    for name, tolerance in TOLERANCES.items():
        stated, measured = said.get(name), found.get(name)
        if stated is not None and measured is not None:
            allowed = (max(tolerance, _SAMPLES / samples) if name == "accuracy"
                       else tolerance * abs(stated))
            yield Check(name, stated, measured, allowed, point)


def _check_comparable(path: str | Path, manifest: Manifest, stated: dict[str, Figures],
                      task: Task) -> None:
    """See that there is something to be held to, and that the data may be what it was taken on."""
    silent = [name for name, figures in stated.items() if figures.get("accuracy") is None]
    if silent:
        raise BundleError(f"{path} states no accuracy at its operating point {silent[0]!r}, so "
                          "there is nothing that it could be held to; verify a bundle as compress "
                          "wrote it")
    taken_on = {found.samples for figures in stated.values()
                if (found := figures.find("accuracy")) is not None and found.samples}
    if taken_on - {len(task.test)}:
        raise DataError(f"{path} states an accuracy on {max(taken_on)} test samples, and the test "
                        f"split of {task.name} has {len(task.test)}; give the data it was made "
                        "with")
    classes = manifest.model.classes
    if None not in (classes, task.classes) and classes != task.classes:
        raise DataError(f"{path} knows the classes {_listed(classes)}, and {task.name} "
                        f"has {_listed(task.classes)}; give the data it was made with, the classes "
                        "in the same order")


def _listed(classes: tuple[str, ...] | None, shown: int = 5) -> str:
    names = classes or ()
    return ", ".join(names[:shown]) + ", ..." * (len(names) > shown)
