"""Stating in a bundle what was measured on it after it was written."""

from __future__ import annotations

from pathlib import Path

from edgewright.bundle import read_bundle, write_bundle
from edgewright.core import Budget, Figures, Manifest
from edgewright.pipeline._evaluate import evaluate_operating_point, time_sessions
from edgewright.pipeline._verify import verify
from edgewright.runtime import Session
from edgewright.task import Task


def write_measured(source: Path, out: Path, figures: Figures, original: Figures, *,
                   budget: Budget, unfinished: str = "") -> Manifest:
    """Write a bundle again, with figures of it and of the original, and the limits they break.

    Args:
        source: The bundle.
        out: Where it is written.
        figures: Its figures; they replace those of the same names.
        original: The original's.
        budget: The limits.
        unfinished: Why its run ended early and how it goes on; empty if it has finished.

    Raises:
        StorageError: It cannot be written.
    """
    bundle = read_bundle(source)
    report = bundle.manifest.report
    stated = bundle.manifest.with_report(
        compressed=report.compressed.with_(*figures.measurements), original=original,
        budget=budget, unfinished=unfinished)
    return write_bundle(out, stated, bundle.segments, finish=Manifest.with_breaches)


def measure_on_test(path: Path, baseline: Path, task: Task) -> tuple[Figures, Figures]:
    """Measure a bundle, and the latency of the original in turn with it, on the test split.

    Args:
        path: The bundle.
        baseline: The original's bundle, which says what was measured on the test split.
        task: The data.

    Returns:
        The figures of both.

    Raises:
        DataError: The data is not the one that the original was measured on.
        ParityError: The original's metrics are others than its bundle says.
    """
    verify(baseline, task)
    bundle, original = read_bundle(path), read_bundle(baseline)
    sessions = {"original": Session(original), "compressed": Session(bundle)}
    figures, _ = evaluate_operating_point(sessions["compressed"], task.test, task.goal)
    timed = time_sessions(sessions, task.test)
    return (figures.with_(*timed["compressed"]),
            original.manifest.report.compressed.with_(*timed["original"]))
