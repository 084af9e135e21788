
from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.report._axis import Axis, cost_axis, quality_axis
from edgewright.report._charts import MACS, Chart, Point, bar, quality_chart
from edgewright.report._labels import Box, place_labels

FRAME = Box(0, 0, 700, 400)


def elements(svg: Any, tag: Any) -> Any:
    return ET.fromstring(svg).iter(tag)  # noqa: S314 - our own drawing


def texts(svg: Any, class_: Any) -> Any:
    return [e.text for e in elements(svg, "text") if e.get("class") == class_]


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_linear_ticks_are_inside_and_evenly_spaced(low: Any, width: Any) -> None:
    axis = Axis(low, low + width, 0, 100)
    if axis.high - axis.low < 1e-5 * max(abs(axis.low), abs(axis.high)):
        return  # finer than the ticks are written
    ticks = axis.ticks(5)
    assert 2 <= len(ticks) <= 7
    slack = 1e-3 * width
    assert all(low - slack <= tick <= axis.high + slack for tick in ticks)


@given(st.lists(st.floats(1, 1e10), min_size=1, max_size=6))
def test_sizes_fall_inside_their_axis(sizes: Any) -> None:
    axis = cost_axis(sizes, 10, 110)
    assert all(10 <= axis.place(size) <= 110 for size in sizes)
    assert axis.log == (max(sizes) / min(sizes) > 12)
    assert axis.ticks(5)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_accuracies_fall_inside_their_axis(accuracies: Any) -> None:
    axis = quality_axis(accuracies, 300, 20, is_percent=True)
    assert all(20 - 1e-6 <= axis.place(value) <= 300 + 1e-6 for value in accuracies)
    assert axis.low >= 0
    assert axis.high <= 100


@pytest.mark.parametrize("spread", [0, 4, 12])
def test_labels_of_near_points_do_not_overlap(spread: int) -> None:
    anchors = [(350 + spread * i, 200 + spread * (i % 2)) for i in range(6)]
    labels = place_labels([f"stage {i}" for i in range(6)], anchors, anchors, FRAME)
    assert all(a.box.overlap(b.box) == 0 for a, b in combinations(labels, 2))


@pytest.mark.parametrize("corner", [(1, 1), (699, 1), (1, 399), (699, 399)])
def test_labels_stay_in_the_frame(corner: tuple[float, float]) -> None:
    label, = place_labels(["quantise"], [corner], [], FRAME)
    assert label.box.overlap(FRAME) == pytest.approx(label.box.area)


def test_points_on_one_spot_share_a_label() -> None:
    points = [Point("baseline", 1e6, 0.9), Point("export", 1e5, 0.88), Point("verify", 1e5, 0.88)]
    assert texts(quality_chart(Chart("t", points), 760, 380), "label") == ["baseline", "export, verify"]


def test_long_labels_are_shortened_in_the_drawing_only() -> None:
    svg = quality_chart(Chart("t", [Point("x" * 80, 1e6, 0.9)]), 760, 380)
    assert texts(svg, "label") == ["x" * 29 + "\u2026"]
    assert "x" * 80 in svg
    many = [Point(f"stage number {i}", 1e6, 0.9) for i in range(5)]
    assert texts(quality_chart(Chart("t", many), 760, 380), "label") == ["stage number 0 +4"]


def test_a_wide_span_of_sizes_takes_a_log_scale() -> None:
    points = [Point("a", 45e6, 0.9), Point("b", 0.5e6, 0.8)]
    assert "Size (MB, log scale)" in texts(quality_chart(Chart("t", points), 760, 380), "name")


def test_points_on_the_way_have_a_dot_and_no_label() -> None:
    points = [Point("full", 4e6, 0.9), Point("", 3e6, 0.89), Point("default", 2e6, 0.88)]
    svg = quality_chart(Chart("t", points, cost=MACS), 760, 380)
    assert texts(svg, "label") == ["full", "default"]
    assert texts(svg, "name") == ["Accuracy (%)", "Mean MACs per sample (M)"]
    assert [circle.get("class") for circle in elements(svg, "circle")] == [
        "dot first", "dot", "dot last"]


def test_points_beside_the_way_are_not_joined_and_the_chosen_one_is_highlighted() -> None:
    points = [Point("small", 1e6, 0.8), Point("good", 2e6, 0.88), Point("large", 4e6, 0.9)]
    svg = quality_chart(Chart("t", points, others=[Point("", 9e6, 0.7, note="worse")], chosen=1),
                        760, 380)
    assert [circle.get("class") for circle in elements(svg, "circle")] == [
        "dot other", "dot", "dot last", "dot"]
    path, = elements(svg, "path")
    assert path.get("d").count("L") == 2
    other = next(elements(svg, "circle"))
    assert other.find("title").text.startswith("worse: 70.00 %")
    assert 44 <= float(other.get("cx")) <= 744


def test_a_limit_of_zero_is_not_drawn() -> None:
    assert "budget" not in quality_chart(Chart("t", [Point("a", 0.0, 0.0)], limit=0.0), 360, 320)


def test_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point, got none"):
        quality_chart(Chart("t", []), 760, 380)


@pytest.mark.parametrize(("after", "before", "whole", "widths"), [
    (50, 80, 100, ["100", "80", "50"]), (0, 80, 100, ["100", "80"]), (0, 0, 0, ["100"]),
    (1, 0, 1e6, ["100", "0.6"]), (200, 0, 100, ["100", "100"]),
])
def test_bar_widths(after: int, before: int, whole: float, widths: list[str]) -> None:
    assert [r.get("width") for r in elements(bar(after, before, whole), "rect")] == widths
