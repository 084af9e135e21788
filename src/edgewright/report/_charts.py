"""The report's charts as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from edgewright.core import ACCURACY, CostName, MetricSpec
from edgewright.report._axis import Axis, cost_axis, quality_axis
from edgewright.report._html import Markup, el, join
from edgewright.report._labels import Box, Label, place_labels
from edgewright.report._text import format_figure, format_label, printable

_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 16.0, 30.0, 44.0
_SAME_PIXEL: Final = 5.0
_LONGEST_LABEL: Final = 30


@dataclass(frozen=True)
class Cost:
    """The quantity on a chart's horizontal axis.

    Attributes:
        figure: The figure's name.
        name: The axis label.
        units: Unit names and sizes, largest first.
    """

    figure: CostName
    name: str
    units: tuple[tuple[str, float], ...]


SIZE: Final = Cost("size_bytes", "Size", (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)))
LATENCY: Final = Cost("latency_ms", "Latency, median",
                      (("s", 1e3), ("ms", 1.0), ("µs", 1e-3)))
MACS: Final = Cost("macs", "Mean MACs per sample",
                   (("G", 1e9), ("M", 1e6), ("k", 1e3), ("1", 1.0)))


@dataclass(frozen=True)
class Point:
    """One dot on the chart: its cost and its quality, the value of a metric.

    A point with an empty label is drawn as a small dot; its note is shown in the tooltip.
    """

    label: str
    cost: float
    quality: float
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A metric against a cost.

    Attributes:
        title: Text alternative for screen readers.
        points: Joined in order; at least one.
        cost: The quantity on the horizontal axis.
        metric: The metric on the vertical axis; a fraction is drawn in percent.
        limit: The budget's limit on the cost in its base unit, drawn as a line.
        others: Points that are not joined.
        chosen: Place of the highlighted point; None highlights the last that has a label, and draws
            the first that has one as a ring.
    """

    title: str
    points: Sequence[Point]
    cost: Cost = SIZE
    metric: MetricSpec = ACCURACY
    limit: float | None = None
    others: Sequence[Point] = ()
    chosen: int | None = None


@dataclass(frozen=True)
class _Frame:
    width: float
    height: float
    x: Axis
    y: Axis
    chart: Chart
    unit: str
    scale: float
    pixels: tuple[tuple[float, float], ...] = field(default=())

    @property
    def cost(self) -> Cost:
        return self.chart.cost

    @property
    def metric(self) -> MetricSpec:
        return self.chart.metric

    def place(self, point: Point) -> tuple[float, float]:
        """The pixel of a point."""
        return self.x.place(point.cost), self.y.place(_shown(self.metric, point.quality))


def quality_chart(chart: Chart, width: float, height: float, *, top: float | None = None) -> Markup:
    """Draw a metric against a cost, joining the points in order.

    Args:
        chart: What is drawn.
        width: Width of the coordinate system, in pixels; the drawing scales to the page.
        height: Height of the coordinate system, in pixels.
        top: Its place in a drawing around it; None if it is a drawing of its own.

    Raises:
        ValueError: There are no points.
    """
    points = chart.points
    if not points:
        raise ValueError(f"{chart.title}: a chart needs at least one point, got none")
    frame = _frame(chart, (width, height))
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in frame.pixels)
    summary = "; ".join(f"{point.label}: {_where(point, frame, ' at ')}" for point in points
                        if point.label)
    inside = {} if top is None else {"y": top, "width": width, "height": height}
    return el("svg", el("title", chart.title), el("desc", summary),
              _grid(frame), _limit(frame, chart.limit),
              el("path", d=path, class_="path"), _others(frame), _dots(frame),
              _labels(points, frame, chart.limit),
              viewBox=f"0 0 {width:g} {height:g}", role="img", class_="chart", **inside)


def _where(point: Point, frame: _Frame, between: str) -> str:
    return between.join((format_figure(frame.metric, point.quality),
                         format_figure(frame.cost.figure, point.cost)))


def wide_and_narrow(chart: Chart) -> tuple[Markup, Markup]:
    """The same chart for a wide and for a narrow page; the style sheet shows one of them."""
    wide, narrow = (quality_chart(chart, width, height)
                    for width, height in ((760, 380), (360, 320)))
    return el("div", wide, class_="wide"), el("div", narrow, class_="narrow")


def bar(after: float, before: float, whole: float) -> Markup:
    """Draw a bar of length ``after`` over a paler one of ``before``, on a track of ``whole``.

    Example:
        >>> bar(0, 0, 0).count("<rect")
        1
    """
    def part(value: float, class_: str) -> Markup:
        share = 100 * min(1.0, value / whole) if whole > 0 and value > 0 else 0.0
        return el("rect", x=0, y=0, width=max(share, 0.6), height=8, class_=class_) if (
            share) else Markup("")

    return el("svg", el("rect", x=0, y=0, width=100, height=8, class_="track"),
              part(before, "before"), part(after, "after"),
              viewBox="0 0 100 8", preserveAspectRatio="none", class_="bar", aria_hidden="true")


def _frame(chart: Chart, size: tuple[float, float]) -> _Frame:
    width, height = size
    points, metric, limit = [*chart.points, *chart.others], chart.metric, chart.limit
    costs = [point.cost for point in points]
    x = cost_axis(costs if limit is None or limit <= 0 else [*costs, limit], _LEFT, width - _RIGHT)
    y = quality_axis([_shown(metric, point.quality) for point in points], height - _BOTTOM, _TOP,
                     is_percent=metric.unit == "fraction")
    unit, scale = next((u for u in chart.cost.units if x.high >= 1.2 * u[1]), chart.cost.units[-1])
    frame = _Frame(width, height, x, y, chart, unit, scale)
    return replace(frame, pixels=tuple(map(frame.place, chart.points)))


def _shown(metric: MetricSpec, value: float) -> float:
    """The value on the vertical axis."""
    return 100 * value if metric.unit == "fraction" else value


def _axis_name(metric: MetricSpec) -> str:
    unit = "%" if metric.unit == "fraction" else metric.unit
    return f"{format_label(metric)} ({unit})" if unit else format_label(metric)


def _grid(frame: _Frame) -> Markup:
    foot, right = frame.height - _BOTTOM, frame.width - _RIGHT
    parts: list[Markup] = []
    for tick in frame.y.ticks(5):
        y = frame.y.place(tick)
        parts += [el("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"),
                  el("text", f"{tick:g}", x=_LEFT - 8, y=y, class_="tick", text_anchor="end",
                     dominant_baseline="central")]
    for tick in frame.x.ticks(max(3, round(frame.width / 110))):
        x = frame.x.place(tick)
        parts += [el("line", x1=x, x2=x, y1=foot, y2=foot + 5, class_="axis"),
                  el("text", f"{tick / frame.scale:g}", x=x, y=foot + 18, class_="tick",
                     text_anchor="middle")]
    scale = ", log scale" if frame.x.log else ""
    parts += [el("line", x1=_LEFT, x2=right, y1=foot, y2=foot, class_="axis"),
              el("text", _axis_name(frame.metric), x=4, y=12, class_="name"),
              el("text", f"{frame.cost.name} ({frame.unit}{scale})", x=right, y=frame.height - 6,
                 class_="name", text_anchor="end")]
    return join(parts)


def _limit(frame: _Frame, limit: float | None) -> Markup:
    if limit is None or limit <= 0:
        return Markup("")
    x = frame.x.place(limit)
    middle = (_LEFT + frame.width) / 2
    side, anchor = (6, "start") if x < middle else (-6, "end")
    return join([
        el("line", x1=x, x2=x, y1=_TOP - 8, y2=frame.height - _BOTTOM, class_="limit"),
        el("text", f"budget: {format_figure(frame.cost.figure, limit)}", x=x + side, y=_TOP - 2,
           class_="limit-name", text_anchor=anchor)])


def _dots(frame: _Frame) -> Markup:
    points = frame.chart.points
    named = [index for index, point in enumerate(points) if point.label]
    first, last = (named[0], named[-1]) if named else (-1, -1)
    if frame.chart.chosen is not None:
        first, last = -1, frame.chart.chosen
    return join(
        _dot(point, pixel, frame, 5.5 if index == last else 4.5 if point.label else 2.5,
             "dot last" if index == last else "dot first" if index == first else "dot")
        for index, (point, pixel) in enumerate(zip(points, frame.pixels, strict=True)))


def _others(frame: _Frame) -> Markup:
    return join(_dot(point, frame.place(point), frame, 3.5, "dot other")
                for point in frame.chart.others)


def _dot(point: Point, pixel: tuple[float, float], frame: _Frame, radius: float,
         class_: str) -> Markup:
    name = point.label or point.note
    return el("circle", el("title", ": ".join(filter(None, (name, _where(point, frame, ", "))))),
              cx=pixel[0], cy=pixel[1], r=radius, class_=class_)


def _labels(points: Sequence[Point], frame: _Frame, limit: float | None) -> Markup:
    groups = _groups({index: pixel for index, pixel in enumerate(frame.pixels)
                      if points[index].label})
    texts = [_shorten([points[index].label for index in group]) for group in groups]
    anchors = [frame.pixels[group[0]] for group in groups]
    inside = Box(_LEFT + 2, _TOP + 2, frame.width - 2, frame.height - _BOTTOM - 2)
    placed = place_labels(texts, anchors, _obstacles(frame, limit), inside)
    return join(_label(label, anchor) for label, anchor in zip(placed, anchors, strict=True))


def _label(label: Label, anchor: tuple[float, float]) -> Markup:
    text = el("text", label.text, x=label.x, y=label.y, text_anchor=label.anchor,
              dominant_baseline="central", class_="label")
    if label.distance <= 12:
        return text
    return join([el("line", x1=anchor[0], y1=anchor[1], x2=label.x, y2=label.y, class_="leader"),
                 text])


def _groups(pixels: Mapping[int, tuple[float, float]]) -> list[list[int]]:
    """Groups of indices of points at the same place, which share one label."""
    groups: list[list[int]] = []
    for index, pixel in pixels.items():
        near = (g for g in groups if math.dist(pixels[g[0]], pixel) < _SAME_PIXEL)
        group = next(near, None)
        if group is None:
            groups.append([index])
        else:
            group.append(index)
    return groups


def _shorten(labels: Sequence[str]) -> str:
    for shown in range(len(labels), 0, -1):
        rest = f" +{len(labels) - shown}" if shown < len(labels) else ""
        text = printable(", ".join(labels[:shown])) + rest
        if len(text) <= _LONGEST_LABEL:
            return text
    return text[:_LONGEST_LABEL - 1] + "\u2026"


def _obstacles(frame: _Frame, limit: float | None) -> list[tuple[float, float]]:
    """Points along the path and the budget's line, which labels should avoid."""
    steps = [i / 24 for i in range(25)]
    pixels = frame.pixels
    along = [*pixels, *map(frame.place, frame.chart.others),
             *((x0 + t * (x1 - x0), y0 + t * (y1 - y0))
               for (x0, y0), (x1, y1) in pairwise(pixels) for t in steps)]
    if limit is None or limit <= 0:
        return along
    x, height = frame.x.place(limit), frame.height - _BOTTOM - _TOP
    return [*along, *((x, _TOP + t * height) for t in steps)]
