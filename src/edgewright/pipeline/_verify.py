"""`verify`: measure a bundle again and compare the figures with its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgewright.bundle import read_bundle
from edgewright.core import Figures, Manifest
from edgewright.errors import BundleError, DataError, ParityError
from edgewright.pipeline._evaluate import evaluate_operating_point
from edgewright.runtime import Session
from edgewright.task import Task

# Absolute for metrics that are fractions (0.1 percentage points, or two samples if that is more, as
# rounding differs between processors), relative for other metrics, and for costs that depend on how
# many samples leave early.
_FRACTION: Final = 0.001
_SAMPLES: Final = 2
_RELATIVE: Final = 0.005
TOLERANCES: Final[dict[str, float]] = {"macs": 0.02, "energy_mj": 0.02}


@dataclass(frozen=True)
class Check:
    """One figure: the manifest's value, the measured value, and the tolerance.

    Attributes:
        point: Name of its operating point; None for the default.
    """

    figure: str
    stated: float
    measured: float
    allowed: float
    point: str | None = None

    @property
    def holds(self) -> bool:
        """Whether the two agree within the tolerance; False if one is NaN."""
        return abs(self.measured - self.stated) <= self.allowed + 1e-12

    def __str__(self) -> str:
        of = "" if self.point is None else f" at {self.point}"
        return (f"{self.figure}{of}: the manifest says {self.stated:.6g}, measured "
                f"{self.measured:.6g} (tolerance {self.allowed:.2g})")


def verify(path: str | Path, task: Task) -> tuple[Check, ...]:
    """Measure a bundle on a task's test split and compare with its manifest.

    Metrics, mean multiply-accumulates and energy of every operating point are measured again;
    damage to the file is detected when it is read.

    Raises:
        BundleError: The file is damaged, or its manifest has no metric to compare with.
        DataError: The data does not fit the bundle's inputs, has other classes, or another number
            of samples than the manifest's metrics were measured on.
        ParityError: Figures deviate from the manifest; the message lists them with the tolerances.
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
        found, _ = evaluate_operating_point(session, task.test, task.goal)
        shown = None if name == session.points[0].name else name
        checks.extend(_checks(said, found, len(task.test), shown))
    broken = [str(check) for check in checks if not check.holds]
    if broken:
        raise ParityError(f"{path}: metrics deviate from the manifest on the test split of "
                          f"{task.name}: {'; '.join(broken)}; the bundle was altered, or the data "
                          "differs")
    return tuple(checks)


def _checks(said: Figures, found: Figures, samples: int, point: str | None) -> Iterator[Check]:
    for stated in said.metrics:
        measured = found.get(stated.name)
        if measured is not None:
            allowed = (max(_FRACTION, _SAMPLES / samples) if stated.unit == "fraction"
                       else _RELATIVE * abs(stated.value))
            yield Check(stated.name, stated.value, measured, allowed, point)
    for name, tolerance in TOLERANCES.items():
        cost, measured = said.get(name), found.get(name)
        if cost is not None and measured is not None:
            yield Check(name, cost, measured, tolerance * abs(cost), point)


def _check_comparable(path: str | Path, manifest: Manifest, stated: dict[str, Figures],
                      task: Task) -> None:
    """Raise if the manifest has no metric, or was measured on other data than the task's."""
    missing = [name for name, figures in stated.items() if figures.metric is None]
    if missing:
        raise BundleError(f"{path} states no metric at its operating point {missing[0]!r}, so "
                          "there is nothing to compare with; verify a bundle as compress wrote it")
    metrics = [metric for figures in stated.values() for metric in figures.metrics]
    if any(metric.split == "val" for metric in metrics):
        raise BundleError(f"{path} states its metrics on the validation split only, since its "
                          "search was interrupted or has not verified it; go on with the search, "
                          "or run edgewright pick with --data")
    measured = {metric.name for metric in task.metrics}
    if unknown := {metric.name for metric in metrics} - measured:
        raise DataError(f"{path} states {', '.join(sorted(unknown))}, but the task measures "
                        f"{', '.join(sorted(measured))}; give the task the goal it was made with")
    counts = {metric.samples for metric in metrics if metric.samples}
    if counts - {len(task.test)}:
        raise DataError(f"{path} states {metrics[0].name} on {max(counts)} test samples, but the "
                        f"test split of {task.name} has {len(task.test)}; give the data it was "
                        "made with")
    classes = manifest.model.classes
    if None not in (classes, task.classes) and classes != task.classes:
        raise DataError(f"{path} has the classes {_format_classes(classes)}, but "
                        f"{task.name} has {_format_classes(task.classes)}; give the data it was "
                        "made with, the classes in the same order")


def _format_classes(classes: tuple[str, ...] | None, shown: int = 5) -> str:
    names = classes or ()
    return ", ".join(names[:shown]) + ", ..." * (len(names) > shown)
