"""What each stage of the run did: the chart of accuracy against size, and the table."""

from __future__ import annotations

import math

from edgewright.core import FigureName, Manifest, Measurement, StageRecord
from edgewright.report._charts import Point, wide_and_narrow
from edgewright.report._html import Markup, el, join
from edgewright.report._tables import row, section, table, value
from edgewright.report._text import LABELS, format_duration, origin_words


def stage_chart(manifest: Manifest) -> Markup:
    """Draw accuracy against size, once for a wide page and once for a narrow one."""
    points = [Point(stage.name, size, accuracy) for stage in manifest.stages
              if (size := stage.figures.get("size_bytes")) is not None
              and (accuracy := stage.figures.get("accuracy")) is not None
              and math.isfinite(size) and math.isfinite(accuracy)]
    if not points:
        return Markup("")
    limit = manifest.budget.limits(manifest.original).get("size")
    origins = _origins(manifest.stages, ("accuracy", "size_bytes"))
    return section(
        "Accuracy against size",
        *wide_and_narrow("Accuracy against size, stage by stage", points, limit=limit),
        lead="Each point is the program that a stage left behind, joined in the order of the run. "
             + origins)


def stage_table(manifest: Manifest) -> Markup:
    """Write one row a stage: time, every figure that some stage has, notes."""
    if not manifest.stages:
        return Markup("")
    names = [name for name in LABELS
             if any(stage.figures.find(name) is not None for stage in manifest.stages)]
    head = ("Stage", "Time", *(_short(name) for name in names))
    rows = [_stage(stage, names) for stage in manifest.stages]
    total = sum(stage.seconds for stage in manifest.stages)
    rows.append(el("tbody", row("All stages", el("td", format_duration(total)),
                                *(el("td", "") for _ in names)), class_="total"))
    return section("Stages", table(head, rows, "stages"), lead=_origins(manifest.stages, names))


def _stage(stage: StageRecord, names: list[FigureName]) -> Markup:
    cells = (el("td", value(stage.figures.find(name))) for name in names)
    first = row(stage.name, el("td", format_duration(stage.seconds)), *cells)
    if not stage.notes:
        return el("tbody", first)
    notes = el("ul", *(el("li", note) for note in stage.notes))
    return el("tbody", join([first, el("tr", el("td", notes, colspan=len(names) + 2),
                                       class_="notes")]))


def _short(name: FigureName) -> str:
    return {"macs": "MACs", "energy_mj": "Energy", "latency_ms": "Latency",
            "mean_latency_ms": "Mean latency"}.get(name, LABELS[name])


def _origins(stages: tuple[StageRecord, ...], names: tuple[FigureName, ...] | list[FigureName],
             ) -> str:
    """Say once where each figure of the stages comes from."""
    told: dict[str, list[str]] = {}
    for name in names:
        found = filter(None, (stage.figures.find(name) for stage in stages))
        words = "; or ".join(dict.fromkeys(", ".join(origin_words(_typical(m))) for m in found))
        told.setdefault(words, []).append(_short(name) if name == "macs" else _short(name).lower())
    return " ".join(f"{_listed(figures)}: {words}." for words, figures in told.items())


def _typical(measurement: Measurement) -> Measurement:
    return measurement.replace(low=None, high=None)


def _listed(words: list[str]) -> str:
    text = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return text[0].upper() + text[1:]
