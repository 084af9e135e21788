"""The exits section: how many samples leave at each exit, and their cost up to there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from edgewright.core import (
    ACCURACY,
    CurvePoint,
    Manifest,
    Measurement,
    MetricSpec,
    OperatingPoint,
    format_count,
    format_metric,
    format_percent,
    format_significant,
    format_threshold,
)
from edgewright.report._charts import MACS, Chart, Point, bar, wide_and_narrow
from edgewright.report._html import Markup, el
from edgewright.report._tables import row, section, table
from edgewright.report._text import format_label


def exits_section(manifest: Manifest) -> Markup:
    """The share of samples that leave at each exit; nothing for a model without exits."""
    model, curve = manifest.model, manifest.report.curve
    if len(model.segments) < 2 or not model.points:
        return Markup("")
    point = model.default_point
    costs = list(accumulate(model.segments[number].macs for number in point.path))
    shares = point.tested.shares if point.tested else (0.0,) * len(costs)
    thresholds = [*map(format_threshold, point.thresholds), "none"]
    samples = point.tested.samples if point.tested else 0
    errors = [*_calibration_errors(point), "none"]
    rows = [_exit("Final" if step == len(costs) - 1 else f"Exit {step + 1}", share, samples,
                  cells, cost)
            for step, (share, *cells, cost)
            in enumerate(zip(shares, thresholds, errors, costs, strict=True))]
    head = ("Exit", "Leave here", f"{point.policy.capitalize()} threshold", "Calibration error",
            "MACs to here")
    parts = [table(head, rows, "exits")]
    if len(model.points) > 1:
        parts.append(_points(model.points))
    measure = MetricSpec(name=manifest.report.exit_measure, unit="fraction")
    if curve:
        parts += [*_draw_curve(curve, measure, model.points), _curve_table(curve, measure)]
    lead = f"{_summarize(shares, costs)} {_describe_guarantee(point, measure)}".strip()
    return section("Exits", *parts, lead=lead)


def _calibration_errors(point: OperatingPoint) -> list[str]:
    """Calibration error of each early exit, before and after its temperature is fitted."""
    known = point.calibrated
    if known is None or not known.errors_before:
        return ["unknown"] * len(point.rules)
    return [format_percent(before) if before == after else
            f"{format_percent(before)} to {format_percent(after)}"
            for before, after in zip(known.errors_before, known.errors_after, strict=True)]


def _exit(name: str, share: float, samples: int, cells: list[str], cost: int) -> Markup:
    count = f"{round(share * samples):,} of {samples:,} samples" if samples else ""
    return row(name, el("td", el("div", bar(share, 0, 1), el("span", format_percent(share)),
                                 class_="meter"), el("small", count) if count else ""),
               *cells, format_count(cost))


def _points(points: tuple[OperatingPoint, ...]) -> Markup:
    """Table of the operating points, in the bundle's order, with their primary metric and cost."""
    metric = points[0].figures.metric or Measurement(name=ACCURACY.name, value=0, kind="measured")

    def cells(point: OperatingPoint) -> tuple[str, ...]:
        found = point.figures
        return (_format_known(found.get(metric.name),
                              lambda value: format_metric(metric.spec, value)),
                _format_known(found.get("macs"), lambda value: format_count(round(value))),
                _format_known(found.get("mean_latency_ms"), lambda value: f"{value:.3g} ms"))

    rows = [row(point.name, *cells(point)) for point in points]
    return table(("Operating point", format_label(metric.spec), "Mean MACs", "Mean latency"), rows,
                 "points")


def _draw_curve(curve: Sequence[CurvePoint], measure: MetricSpec,
                points: Sequence[OperatingPoint]) -> tuple[Markup, Markup]:
    """Quality against mean cost, with the operating points that share the default's path."""
    default = points[0]
    shown = [Point("", point.macs, point.accuracy) for point in curve[1:]]
    shown += [Point(point.name, macs, quality) for point in points
              if (point.path, point.policy) == (default.path, default.policy)
              and (macs := point.figures.get("macs")) is not None
              and (quality := point.figures.get(measure.name)) is not None]
    full = Point("no early exits taken", curve[0].macs, curve[0].accuracy)
    ordered = sorted(shown, key=lambda point: -point.cost)
    return wide_and_narrow(Chart(f"{format_label(measure)} against mean multiply-accumulates",
                                 [full, *ordered], cost=MACS, metric=measure))


def _curve_table(curve: Sequence[CurvePoint], measure: MetricSpec) -> Markup:
    """The curve as a table, for readers who choose their own thresholds."""
    full = curve[0].macs
    rows = [row(format_count(round(point.macs)),
                f"{format_significant(100 * point.macs / full)} %",
                format_percent(point.accuracy, 2),
                ", ".join(map(format_threshold, point.thresholds))) for point in curve]
    head = ("Mean MACs", "Of the full path", format_label(measure), "Thresholds")
    return el("details", el("summary", "The curve in numbers"), table(head, rows, "curve"))


def _format_known(value: float | None, format_value: Callable[[float], str]) -> str:
    return "unknown" if value is None else format_value(value)


def _describe_guarantee(point: OperatingPoint, measure: MetricSpec) -> str:
    known = point.guarantee
    if known is None:
        return ""
    return (f"With probability {1 - known.delta:.3g}, on data like the {known.samples:,} "
            f"{known.split} samples it was tested on, leaving early costs at most "
            f"{100 * known.epsilon:.3g} points of {measure.name.replace('_', ' ')}.")


def _summarize(shares: tuple[float, ...], costs: list[int]) -> str:
    early = f"{format_percent(1 - shares[-1])} of the test samples leave before the end"
    if costs[-1] <= 0:
        return f"{early}."
    mean = sum(share * cost for share, cost in zip(shares, costs, strict=True))
    return (f"{early}; on average a sample needs {format_significant(100 * mean / costs[-1])} % "
            "of the MACs of the full path.")
