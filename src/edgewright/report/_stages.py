"""The stages of a run: a chart of accuracy against size, and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgewright.core import COSTS, Measurement, RunReport, StageRecord
from edgewright.report._charts import Chart, Point, wide_and_narrow
from edgewright.report._html import Markup, el, join
from edgewright.report._tables import row, section, table, value
from edgewright.report._text import COST_LABELS, format_duration, format_label, format_origin


def stage_chart(report: RunReport) -> Markup:
    """Chart of the primary metric against size, for a wide page and for a narrow one."""
    metric = next((stage.figures.metric.spec for stage in report.stages
                   if stage.figures.metric is not None), None)
    if metric is None:
        return Markup("")
    points = [Point(stage.name, size, quality) for stage in report.stages
              if (size := stage.figures.get("size_bytes")) is not None
              and (quality := stage.figures.get(metric.name)) is not None
              and math.isfinite(size) and math.isfinite(quality)]
    if not points:
        return Markup("")
    limit = report.budget.limits(report.original).get("size")
    origins = _origins(report.stages, (metric.name, "size_bytes"))
    title = f"{format_label(metric)} against size"
    return section(
        title, *wide_and_narrow(Chart(f"{title}, stage by stage", points, metric=metric,
                                      limit=None if limit is None else limit.bound)),
        lead="Each point is the program after one stage; the line follows the order of the run. "
             + origins)


def stage_table(report: RunReport) -> Markup:
    """Table with one row per stage: time, every figure that some stage has, notes."""
    if not report.stages:
        return Markup("")
    present = [name for stage in report.stages for name in stage.figures.names()]
    metrics = dict.fromkeys(name for name in present if name not in COSTS)
    names = [*metrics, *(name for name in COST_LABELS if name in present)]
    head = ("Stage", "Time", *(_short(name) for name in names))
    rows = [_stage(stage, names) for stage in report.stages]
    total = sum(stage.seconds for stage in report.stages)
    rows.append(el("tbody", row("All stages", el("td", format_duration(total)),
                                *(el("td", "") for _ in names)), class_="total"))
    return section("Stages", table(head, rows, "stages"), lead=_origins(report.stages, names))


def _stage(stage: StageRecord, names: list[str]) -> Markup:
    cells = (el("td", value(stage.figures.find(name))) for name in names)
    first = row(stage.name, el("td", format_duration(stage.seconds)), *cells)
    if not stage.notes:
        return el("tbody", first)
    notes = el("ul", *(el("li", note) for note in stage.notes))
    return el("tbody", join([first, el("tr", el("td", notes, colspan=len(names) + 2),
                                       class_="notes")]))


def _short(name: str) -> str:
    return {"macs": "MACs", "energy_mj": "Energy", "latency_ms": "Latency",
            "mean_latency_ms": "Mean latency"}.get(name, format_label(name))


def _origins(stages: tuple[StageRecord, ...], names: Sequence[str]) -> str:
    """One sentence per origin, listing the figures that come from it."""
    figures_by_origin: dict[str, list[str]] = {}
    for name in names:
        found = filter(None, (stage.figures.find(name) for stage in stages))
        origin = "; or ".join(dict.fromkeys(
            ", ".join(format_origin(_without_spread(m))) for m in found))
        figures_by_origin.setdefault(origin, []).append(
            _short(name) if name == "macs" else _short(name).lower())
    return " ".join(f"{_join_names(figures)}: {origin}."
                    for origin, figures in figures_by_origin.items())


def _without_spread(measurement: Measurement) -> Measurement:
    return measurement.replace(low=None, high=None)


def _join_names(names: list[str]) -> str:
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return text[0].upper() + text[1:]
