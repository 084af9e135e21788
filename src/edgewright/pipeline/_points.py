"""Choose a bundle's operating points on the validation split, evaluate them on the test split."""

from __future__ import annotations

from dataclasses import replace

from edgewright.bundle import Bundle
from edgewright.core import Figures, Manifest, Measurement, OperatingPoint
from edgewright.exits import CalibratedPoint, ExitCalibration
from edgewright.pipeline._evaluate import (
    choose_operating_points,
    evaluate_operating_point,
    measure_exit_curve,
    time_sessions,
)
from edgewright.pipeline._metric_with_exits import make_acceptance
from edgewright.pipeline._route_profiles import profile_routes
from edgewright.pipeline._run_log import RunLog
from edgewright.runtime import Session
from edgewright.task import Task


def add_operating_points(draft: Bundle, task: Task, config: ExitCalibration, seed: int,
                         log: RunLog) -> Bundle:
    """Add operating points, chosen on the validation split, to a bundle.

    The curve through the default point is measured on the test split.
    """
    chosen, found = calibrate_points(draft, task, config, seed)
    for calibration in found:
        log.note(calibration.words)
    curve = measure_exit_curve(task.test, task.goal, chosen.manifest.model.points[0],
                               found[0].steps, Session(draft))
    return replace(chosen, manifest=chosen.manifest.with_report(
        curve=curve, exit_measure=task.goal.exit_measure))


def calibrate_points(draft: Bundle, task: Task, config: ExitCalibration,
                     seed: int) -> tuple[Bundle, tuple[CalibratedPoint, ...]]:
    """A bundle with operating points chosen on the validation split, and their calibrations."""
    session = Session(draft)
    accept = make_acceptance(session, task, config.policy)
    found = choose_operating_points(session, task, config, seed, accept)
    path = draft.manifest.model.default_point.path
    return replace_points(draft, tuple(calibration.point.replace(path=path)
                                       for calibration in found)), found


def evaluate_operating_points(session: Session, draft: Bundle,
                              task: Task) -> tuple[Figures, Manifest]:
    """The default point's figures on the test split, and the manifest with every point's.

    Of a routed model, the manifest gets the branches that the samples took.

    The session runs the draft at its default point. The latencies of the other points are measured
    here in turn; the default point is timed together with the other files of its run.
    """
    before = session.stats().computed
    figures, tested = evaluate_operating_point(session, task.test, task.goal)
    if not draft.manifest.model.points:
        ran = [now - then for now, then in zip(session.stats().computed, before, strict=True)]
        return figures, draft.manifest.with_report(
            routes=profile_routes(session.model, ran, task.test.name))
    default, *others = draft.manifest.model.points
    points = [default.replace(figures=figures, tested=tested)]
    sessions = {point.name: open_at_point(draft, point.name) for point in others}
    latencies = time_sessions(sessions, task.test) if sessions else {}
    for point in others:
        found, tested = evaluate_operating_point(sessions[point.name], task.test,
                                                 task.goal)
        points.append(point.replace(figures=found.with_(*latencies[point.name]), tested=tested))
    return figures, draft.manifest.with_model(points=tuple(points))


def takes_early_exits(points: tuple[OperatingPoint, ...]) -> bool:
    """Whether any sample took an early exit at one of these points during calibration."""
    return any(share > 0 for point in points if point.calibrated is not None
               for share in point.calibrated.shares[:-1])


def open_at_point(draft: Bundle, name: str) -> Session:
    """Open a session at one operating point of a bundle."""
    session = Session(draft)
    session.point = name
    return session


def replace_points(draft: Bundle, points: tuple[OperatingPoint, ...]) -> Bundle:
    """Return the bundle in memory with these operating points."""
    return replace(draft, manifest=draft.manifest.with_model(points=points))


def add_latency(manifest: Manifest, latency: tuple[Measurement, ...]) -> Manifest:
    """Add a latency to the figures of the default point and of the file, which are the same."""
    points = tuple(point.replace(figures=point.figures.with_(*latency)) if index == 0 else point
                   for index, point in enumerate(manifest.model.points))
    return manifest.with_model(points=points).with_report(
        compressed=manifest.report.compressed.with_(*latency))
