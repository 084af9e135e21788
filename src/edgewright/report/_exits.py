"""How many samples leave at each exit, and what they cost up to there."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from edgewright.core import Manifest, OperatingPoint, format_count, format_threshold
from edgewright.report._charts import MACS, Point, bar, wide_and_narrow
from edgewright.report._html import Markup, el
from edgewright.report._tables import row, section, table
from edgewright.report._text import significant


def exit_chart(manifest: Manifest) -> Markup:
    """Draw the share of samples that leave at each exit; nothing for a model without exits."""
    if len(manifest.segments) < 2 or not manifest.points:
        return Markup("")
    point = manifest.points[0]
    costs = list(accumulate(manifest.segments[number].macs for number in point.path))
    shares = point.tested.shares if point.tested else (0.0,) * len(costs)
    asked = [*map(format_threshold, point.thresholds), "none"]
    samples = point.tested.samples if point.tested else 0
    errors = [*_calibration_errors(point), "none"]
    rows = [_exit("Final" if step == len(costs) - 1 else f"Exit {step + 1}", share, samples,
                  cells, cost)
            for step, (share, *cells, cost)
            in enumerate(zip(shares, asked, errors, costs, strict=True))]
    head = ("Exit", "Leave here", f"{point.policy.capitalize()} asked", "Calibration error",
            "MACs to here")
    parts = [table(head, rows, "exits")]
    if len(manifest.points) > 1:
        parts.append(_points(manifest.points))
    if manifest.curve:
        parts += [*_curve(manifest), _curve_table(manifest)]
    return section("Exits", *parts, lead=f"{_summary(shares, costs)} {_promise(point)}".strip())


def _calibration_errors(point: OperatingPoint) -> list[str]:
    """Of each early exit: how far its confidence is from its accuracy, before and after."""
    known = point.calibrated
    if known is None or not known.errors_before:
        return ["not known"] * len(point.rules)
    return [f"{100 * before:.1f} % to {100 * after:.1f} %" for before, after
            in zip(known.errors_before, known.errors_after, strict=True)]


def _exit(name: str, share: float, samples: int, cells: list[str], cost: int) -> Markup:
    count = f"{round(share * samples):,} of {samples:,} samples" if samples else ""
    return row(name, el("td", el("div", bar(share, 0, 1), el("span", f"{100 * share:.1f} %"),
                                 class_="meter"), el("small", count) if count else ""),
               *cells, format_count(cost))


def _points(points: tuple[OperatingPoint, ...]) -> Markup:
    """The ways through the bundle, dearest first, with what each costs and is worth."""
    def cells(point: OperatingPoint) -> tuple[str, ...]:
        found = point.figures
        return (_or_none(found.get("accuracy"), lambda value: f"{100 * value:.2f} %"),
                _or_none(found.get("macs"), lambda value: format_count(round(value))),
                _or_none(found.get("mean_latency_ms"), lambda value: f"{value:.3g} ms"))

    rows = [row(point.name, *cells(point)) for point in points]
    return table(("Operating point", "Accuracy", "Mean MACs", "Mean latency"), rows, "points")


def _curve(manifest: Manifest) -> tuple[Markup, Markup]:
    """Accuracy against mean cost, dearest first, with the points that follow the default's path."""
    default = manifest.points[0]
    shown = [Point("", point.macs, point.accuracy) for point in manifest.curve[1:]]
    shown += [Point(point.name, macs, accuracy) for point in manifest.points
              if (point.path, point.policy) == (default.path, default.policy)
              and (macs := point.figures.get("macs")) is not None
              and (accuracy := point.figures.get("accuracy")) is not None]
    full = Point("nobody leaves early", manifest.curve[0].macs, manifest.curve[0].accuracy)
    ordered = sorted(shown, key=lambda point: -point.cost)
    return wide_and_narrow("Accuracy against mean multiply-accumulates", [full, *ordered],
                           cost=MACS)


def _curve_table(manifest: Manifest) -> Markup:
    """The same in numbers, for those who choose thresholds of their own."""
    full = manifest.curve[0].macs
    rows = [row(format_count(round(point.macs)), f"{significant(100 * point.macs / full)} %",
                f"{100 * point.accuracy:.2f} %",
                ", ".join(map(format_threshold, point.thresholds))) for point in manifest.curve]
    head = ("Mean MACs", "Of the full path", "Accuracy", "Thresholds")
    return el("details", el("summary", "The curve in numbers"), table(head, rows, "curve"))


def _or_none(value: float | None, words: Callable[[float], str]) -> str:
    return "not known" if value is None else words(value)


def _promise(point: OperatingPoint) -> str:
    kept = point.guarantee
    if kept is None:
        return ""
    return (f"With probability {1 - kept.delta:.3g}, on data like the {kept.samples:,} "
            f"{kept.split} samples it was tested on, leaving early costs at most "
            f"{100 * kept.epsilon:.3g} points of accuracy.")


def _summary(shares: tuple[float, ...], costs: list[int]) -> str:
    words = f"{100 * (1 - shares[-1]):.1f} % of the test samples leave before the end"
    if costs[-1] <= 0:
        return f"{words}."
    mean = sum(share * cost for share, cost in zip(shares, costs, strict=True))
    return (f"{words}; the mean sample needs {significant(100 * mean / costs[-1])} % "
            "of the MACs of the full path.")
