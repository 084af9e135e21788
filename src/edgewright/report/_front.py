"""The front of a search: drawings, a page of their own, and a terminal's table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from edgewright.core import Measurement, SearchRecord, TrialRecord
from edgewright.report._charts import LATENCY, SIZE, Chart, Cost, Point, quality_chart
from edgewright.report._html import Markup, el, join
from edgewright.report._text import format_figure, format_label, printable

_WIDTH: Final = 760.0
_HEIGHT: Final = 380.0
_LONGEST_NAME: Final = 22


def front_charts(record: SearchRecord) -> Iterator[Chart]:
    """The score against the size and against the latency, as far as they were measured.

    The candidates that no other beats in both are joined, the result among them; every other
    candidate is a pale dot.
    """
    for name, cost in (("size", SIZE), ("latency", LATENCY)):
        chart = _chart(record, name, cost)
        if chart is not None:
            yield chart


def _chart(record: SearchRecord, limit_name: str, cost: Cost) -> Chart | None:
    known = [trial for trial in record.trials if trial.figures.get(cost.figure) is not None]
    if not known:
        return None
    best, joined = float("-inf"), []
    for trial in sorted(known, key=lambda one: (one.figures[cost.figure], -one.score)):
        if trial.score > best or trial.name == record.chosen:
            joined.append(trial)
        best = max(best, trial.score)
    names = [trial.name for trial in joined]
    limit = record.budget.limits(record.original).get(limit_name)
    title = f"{format_label(record.score)} against {limit_name}"
    return Chart(
        title[0].upper() + title[1:],
        [_point(record, trial, cost, trial.name) for trial in joined],
        cost=cost, metric=record.score, limit=None if limit is None else limit.bound,
        others=[_point(record, trial, cost, "") for trial in known if trial.name not in names],
        chosen=names.index(record.chosen) if record.chosen in names else -1)


def _point(record: SearchRecord, trial: TrialRecord, cost: Cost, label: str) -> Point:
    return Point(label, trial.figures[cost.figure], record.score_of(trial), note=trial.name)


def render_front_svg(record: SearchRecord, style: str) -> str:
    """The drawings of a front, one below the other, as one SVG file without other resources.

    Args:
        record: The search.
        style: The style sheet that colors them.
    """
    charts = list(front_charts(record))
    gap, height = 24.0, max(1, len(charts)) * (_HEIGHT + 24.0)
    drawings = [quality_chart(chart, _WIDTH, _HEIGHT, top=gap + place * (_HEIGHT + gap))
                for place, chart in enumerate(charts)]
    titles = [el("text", chart.title, x=4, y=16 + place * (_HEIGHT + gap), class_="title")
              for place, chart in enumerate(charts)]
    paper = el("rect", x=0, y=0, width=_WIDTH, height=height, class_="paper")
    drawn = el("svg", el("title", "The front of a search"), el("style", Markup(style)), paper,
               join(titles), join(drawings), viewBox=f"0 0 {_WIDTH:g} {height:g}",
               xmlns="http://www.w3.org/2000/svg", role="img", class_="front")
    return f"{drawn}\n"


def front_table(record: SearchRecord) -> Table:
    """The terminal's table of a search's front, the smallest file first, within 80 columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("")
    table.add_column("File", no_wrap=True, max_width=_LONGEST_NAME)
    for heading in ("Size", "Latency", _heading(record), "Split"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in record.front:
        trial = record.trial(name)
        stated = trial.stated
        table.add_row("*" if name == record.chosen else "" if trial.within_limits else "!",
                      Text(printable(name)), _shown(stated.find("size_bytes")),
                      _shown(stated.find("latency_ms")), _shown(stated.metric),
                      "val" if trial.tested is None else "test")
    return table


def _heading(record: SearchRecord) -> str:
    metric = record.original.metric
    return "Metric" if metric is None else format_label(metric.spec)[:_LONGEST_NAME]


def _shown(measurement: Measurement | None) -> str:
    return "" if measurement is None else format_figure(measurement.spec, measurement.value)
