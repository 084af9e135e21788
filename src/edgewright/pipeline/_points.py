"""The ways through a bundle: chosen on the validation split, judged on the test split."""

from __future__ import annotations

from dataclasses import replace

from edgewright.bundle import Bundle
from edgewright.core import Figures, Manifest, OperatingPoint
from edgewright.exits import EarlyExits
from edgewright.pipeline._judge import calibrate, curve_on, judge, time_sessions
from edgewright.pipeline._narrator import Narrator
from edgewright.runtime import Session
from edgewright.task import Task


def calibrated(draft: Bundle, task: Task, exits: EarlyExits, seed: int,
               narrator: Narrator) -> Bundle:
    """The bundle with its operating points, chosen on the validation split.

    The curve that the default is a point of is taken on the test split.
    """
    session = Session(draft)
    found = calibrate(session, task.val, exits, seed)
    for calibration in found:
        narrator.note(calibration.words)
    points = tuple(calibration.point.replace(path=draft.manifest.model.default_point.path)
                   for calibration in found)
    curve = curve_on(task.test, points[0], found[0].steps, session)
    chosen = with_points(draft, points)
    return replace(chosen, manifest=chosen.manifest.with_report(curve=curve))


def judged(session: Session, draft: Bundle, task: Task) -> tuple[Figures, Manifest]:
    """The default point's figures on the test split, and the manifest with every point's.

    The session runs the draft at its default point.
    All but the default have their latencies too, timed in turn; the default's is timed with the
    other files of its run.
    """
    figures, tested = judge(session, task.test)
    if not draft.manifest.model.points:
        return figures, draft.manifest
    default, *others = draft.manifest.model.points
    points = [default.replace(figures=figures, tested=tested)]
    sessions = {point.name: at_point(draft, point.name) for point in others}
    latencies = time_sessions(sessions, task.test) if sessions else {}
    for point in others:
        found, tested = judge(sessions[point.name], task.test)
        points.append(point.replace(figures=found.with_(*latencies[point.name]), tested=tested))
    return figures, draft.manifest.with_model(points=tuple(points))


def any_leaves_early(points: tuple[OperatingPoint, ...]) -> bool:
    """Whether at any of these points a sample left early, of those they were chosen on."""
    return any(share > 0 for point in points if point.calibrated is not None
               for share in point.calibrated.shares[:-1])


def at_point(draft: Bundle, name: str) -> Session:
    """A session that goes one way through the bundle."""
    session = Session(draft)
    session.point = name
    return session


def with_points(draft: Bundle, points: tuple[OperatingPoint, ...]) -> Bundle:
    """A bundle in memory with these ways through it."""
    return replace(draft, manifest=draft.manifest.with_model(points=points))
