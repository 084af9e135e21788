
from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import COSTS, Figures, Manifest, Measurement
from edgewright.report import Row, comparison_rows
from edgewright.report._text import (
    COST_LABELS,
    describe_change,
    format_duration,
    format_figure,
    format_margin,
    format_origin,
    printable,
)


def row(name: str, before: Any, after: Any, **details: Any) -> Any:
    def side(value: Any) -> Any:
        return None if value is None else Measurement(name=name, value=value, kind="measured",
                                                      **details)

    return Row(name, side(before), side(after))


def test_rows_pair_figures_in_the_reports_order(manifest: Manifest) -> None:
    rows = comparison_rows(manifest.report)
    assert [r.figure for r in rows] == ["accuracy", *COST_LABELS]
    assert [r.verdict for r in rows] == ["worse"] + ["better"] * 7
    size = rows[1]
    assert size.ratio == pytest.approx(153_127 / 1_092_437)
    assert size.original is manifest.report.original.find("size_bytes")


def test_a_figure_only_one_side_has_keeps_its_row(breached: Manifest) -> None:
    ram = next(r for r in comparison_rows(breached.report) if r.figure == "ram_bytes")
    assert ram.compressed is None
    assert (ram.ratio, ram.change, ram.verdict, ram.kinds) == (None, "", "unknown", "modelled")


def test_no_figures_give_no_rows(bare: Manifest) -> None:
    assert comparison_rows(bare.report) == ()


def test_kinds_differ_where_the_sides_do() -> None:
    before = Measurement(name="ram_bytes", value=2, kind="modelled")
    after = before.replace(kind="measured")
    assert Row("ram_bytes", before, after).kinds == "modelled / measured"


@pytest.mark.parametrize(("before", "after", "low", "high", "expected"), [
    (2.0, 2.1, 1.8, 2.2, True), (2.0, 2.5, 1.8, 2.2, False), (2.0, 2.1, None, 2.2, False),
])
def test_within_spread_needs_both_values_inside(before: float, after: float, low: float | None,
                                                high: float, expected: bool) -> None:
    assert row("latency_ms", before, after, low=low, high=high).within_spread is expected


@pytest.mark.parametrize(("name", "before", "after", "words", "verdict"), [
    ("size_bytes", 410_000, 100_000, "4.1x smaller", "better"),
    ("size_bytes", 100_000, 410_000, "larger: 4.1x", "worse"),
    ("latency_ms", 2.0, 2.4, "slower: 1.2x", "worse"),
    ("latency_ms", 2.0, 1.92, "1.04x faster", "better"),
    ("latency_ms", 2.0, 1.999, "same", "same"),
    ("parameters", 1_234_500, 1_000, "1,234x fewer", "better"),
    ("energy_mj", 9.94, 1.0, "9.9x less", "better"),
    ("energy_mj", 9.96, 1.0, "10x less", "better"),
    ("accuracy", 0.9173, 0.9143, "-0.3 points", "worse"),
    ("accuracy", 0.9, 0.91, "+1 point", "better"),
    ("accuracy", 0.9, 0.900_01, "same", "same"),
    ("macs", 0.0, 5.0, "more: from zero", "worse"),
    ("macs", 5.0, 0.0, "fewer: down to zero", "better"),
    ("macs", 0.0, 0.0, "same", "same"),
    ("macs", math.nan, 1.0, "unknown", "unknown"),
])
def test_changes_in_words(name: str, before: Any, after: float, words: str, verdict: str) -> None:
    change = row(name, before, after)
    assert (change.change, change.verdict) == (words, verdict)


def test_ratio_of_zero_is_none() -> None:
    assert row("macs", 0.0, 5.0).ratio is None


@given(st.sampled_from(["accuracy", *COSTS]), st.floats(0, 1e15), st.floats(0, 1e15))
def test_a_change_and_its_reverse_agree(name: Any, before: Any, after: Any) -> None:
    there, back = row(name, before, after), row(name, after, before)
    opposite = {"better": "worse", "worse": "better", "same": "same"}
    assert back.verdict == opposite[there.verdict]
    assert describe_change(name, before, after)


@pytest.mark.parametrize(("name", "value", "words"), [
    ("accuracy", 0.9173, "91.73 %"), ("size_bytes", 98_496, "98.5 kB"), ("macs", 40.8e6, "40.8 M"),
    ("latency_ms", 0.01234, "0.0123 ms"), ("mean_latency_ms", 45_678.9, "45,679 ms"),
    ("energy_mj", 0.0091, "9.1 µJ"), ("energy_mj", 12.5, "12.5 mJ"), ("energy_mj", 0, "0 mJ"),
    ("ram_bytes", math.nan, "unknown"), ("ram_bytes", math.inf, "unknown"),
])
def test_figures_in_words(name: str, value: Any, words: str) -> None:
    assert format_figure(name, value) == words


@pytest.mark.parametrize(("name", "value", "limit", "words"), [
    ("size_bytes", 96e3, 100e3, "4 % under"), ("size_bytes", 120e3, 100e3, "20 % over"),
    ("accuracy", 0.92, 0.91, "1 point to spare"), ("accuracy", 0.9, 0.92, "2 points short"),
    ("size_bytes", 1.0, 0.0, ""), ("size_bytes", math.nan, 1.0, ""),
])
def test_margins_in_words(name: str, value: Any, limit: float, words: str) -> None:
    assert format_margin(name, value, limit) == words


def test_one_run_is_singular() -> None:
    once = Measurement(name="latency_ms", value=1, kind="measured", samples=1, low=0.9)
    assert format_origin(once) == ("measured", "1 run", "p10 0.9 ms")


@pytest.mark.parametrize(("seconds", "words"), [
    (0.0, "0 s"), (59.9, "59.9 s"), (59.97, "1 min 0 s"), (3600, "1 h 0 min"),
])
def test_durations(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_printable_keeps_ordinary_text() -> None:
    assert printable("naïve 模型\n\tβλ") == "naïve 模型\n\tβλ"


def test_figures_are_not_invented(bare: Manifest) -> None:
    only = bare.with_report(compressed=Figures.of(
        Measurement(name="macs", value=3, kind="modelled")))
    assert [(r.figure, r.original) for r in comparison_rows(only.report)] == [("macs", None)]
