"""The sections, the page and the drawing of a search."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from edgewright.core import (
    ACCURACY,
    Budget,
    CostPrediction,
    Figures,
    Manifest,
    Measurement,
    MetricSpec,
    SearchRecord,
    TrialRecord,
)
from edgewright.report import draw_front, front_table, render_front, render_html


def figures(accuracy: float, split: str, size: float, latency: float) -> Figures:
    return Figures.of(
        Measurement.of(ACCURACY, accuracy, split=split, samples=1000),
        Measurement(name="size_bytes", value=size, kind="measured"),
        Measurement(name="latency_ms", value=latency, kind="measured"))


def trial(name: str, accuracy: float, size: float, latency: float, **details: Any) -> TrialRecord:
    return TrialRecord(name=name, figures=figures(accuracy, "val", size, latency), score=accuracy,
                       seconds=75, **{"within_limits": True, **details})


@pytest.fixture
def record() -> SearchRecord:
    trials = (
        trial("quantized", 0.93, 250e3, 2.0, bits={8: 22}, within_limits=False,
              predicted={"size": 260e3, "latency": 2.1}),
        trial("00-1", 0.80, 120e3, 1.0, removed=("layer1.1", "layer2.2"),
              widths={"conv1.weight": 12}, bits={8: 10, 4: 7}, training_seconds=40,
              predicted={"size": 118e3, "latency": 0.9}),
        trial("01-1", 0.70, 130e3, 1.2, bits={8: 2, 2: 20}, training_seconds=40),
        trial("00-final", 0.91, 121e3, 1.01, removed=("layer1.1", "layer2.2"),
              bits={8: 10, 4: 7}, training_seconds=300, quantized_training_seconds=120,
              tested=figures(0.89, "test", 121.5e3, 1.02)))
    return SearchRecord(
        budget=Budget(size="150 kB", latency="1.5 ms"),
        original=figures(0.92, "test", 1e6, 4.0), validated=figures(0.94, "val", 1e6, 4.0),
        score=ACCURACY, trials=trials, front=("00-1", "00-final", "quantized"), chosen="00-final",
        predictions=(CostPrediction(name="size", figure="size_bytes", trials=2, mean_error=0.028,
                                    rank_correlation=1.0),
                     CostPrediction(name="latency", figure="latency_ms", trials=2,
                                    mean_error=0.07, rank_correlation=None)),
        phases={"prepare": 31.0, "race": 240.0}, seconds=610, time_limit=1200)


def text_of(page: str) -> str:
    text = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))
    return " ".join(text.replace("\u2212", "-").replace("\u00d7", "x").split())


def row_of(page: str, name: str) -> str:
    rows = [text_of(found) for found in re.findall(r"<tr>.*?</tr>", page, flags=re.DOTALL)]
    return next(row for row in rows if row.startswith(name))


def test_every_candidate_says_what_it_changed_and_what_was_found(manifest: Manifest,
                                                                 record: SearchRecord) -> None:
    page = render_html(manifest, record)
    assert row_of(page, "00-1") == (
        "00-1 front layer1.1, layer2.2 1 group 10 x 8, 7 x 4 40 s 120 kB 118 kB predicted 1 ms "
        "0.9 ms predicted 80.00 % 1 min 15 s")
    assert row_of(page, "00-final").startswith(
        "00-final result front layer1.1, layer2.2 none 10 x 8, 7 x 4 5 min 0 s + 2 min 0 s "
        "quantized")
    assert row_of(page, "quantized").startswith("quantized front over a limit none none 22 x 8")
    assert 'title="conv1.weight 12"' in page


def test_predictions_are_shown_beside_what_was_measured(manifest: Manifest,
                                                        record: SearchRecord) -> None:
    page = render_html(manifest, record)
    assert row_of(page, "size 2") == "size 2 2.8 % 1.00"
    assert row_of(page, "latency 2") == "latency 2 7.0 % unknown"
    tested = [text_of(found) for found in re.findall(r"<tr>.*?</tr>", page, flags=re.DOTALL)
              if "points" in found and "00-final" in found]
    assert tested == ["00-final 91.00 % +3 points +3 points same"]
    assert "prepare 31 s race 4 min 0 s" in text_of(page)
    assert "10 min 10 s of 20 min 0 s" in text_of(page)


def test_what_each_stage_cost_is_listed(manifest: Manifest, record: SearchRecord) -> None:
    page = render_html(manifest, record)
    part = page[page.index("What each stage cost"):page.index("<h2>Search</h2>")]
    assert row_of(part, "prune channels") == "prune channels -7.61 points 1.9x smaller 41.2 s"
    assert row_of(part, "recover").startswith("recover +7.14 points same")


def test_a_run_without_a_search_has_no_such_sections(manifest: Manifest) -> None:
    page = render_html(manifest)
    assert "Candidates" not in page
    assert "What each stage cost" not in page


def test_a_judge_explains_the_score(manifest: Manifest, record: SearchRecord) -> None:
    judged = record.replace(score=MetricSpec(name="agreement", unit="fraction"))
    text = text_of(render_html(manifest, judged))
    assert "compared by their agreement, since the original is better on the validation" in text
    assert "Agreement against size" in text


def test_the_front_is_drawn_against_size_and_latency(record: SearchRecord) -> None:
    drawing = ET.fromstring(draw_front(record))  # noqa: S314 - our own drawing
    name = "{http://www.w3.org/2000/svg}"
    charts = drawing.findall(f"{name}svg")
    assert [chart.find(f"{name}title").text for chart in charts] == [  # type: ignore[union-attr]
        "Accuracy against size", "Accuracy against latency"]
    labels = [[text.text for text in chart.iter(f"{name}text") if text.get("class") == "label"]
              for chart in charts]
    assert labels == [["00-1", "00-final", "quantized"]] * 2
    dots = [dot.get("class") for dot in charts[0].iter(f"{name}circle")]
    assert dots == ["dot other", "dot", "dot last", "dot"]
    assert "budget: 150 kB" in "".join(charts[0].itertext())


def test_pages_and_drawings_load_nothing_and_have_a_dark_mode(record: SearchRecord) -> None:
    for text in (draw_front(record), render_front(record, "runs/a")):
        assert "prefers-color-scheme: dark" in text
        assert not re.search(r"(href|src)=|url\(|@import|<script", text)
    assert "Candidates" in render_front(record, "runs/a")


def test_the_table_fits_a_terminal_of_80_columns(record: SearchRecord) -> None:
    long = record.trials[-1].replace(name="12-tightened-3-" + "x" * 30)
    shown = record.replace(trials=(*record.trials, long), front=(*record.front, long.name))
    out = StringIO()
    Console(file=out, width=80).print(front_table(shown))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == len(shown.front) + 4
    table = [line.split() for line in lines]
    assert ["*", "00-final", "122", "kB", "1.02", "ms", "89.00", "%", "test"] in table
    assert ["!", "quantized", "250", "kB", "2", "ms", "93.00", "%", "val"] in table


def test_an_unfinished_run_says_so_first(manifest: Manifest) -> None:
    page = render_html(manifest.with_report(unfinished="interrupted; go on with: edgewright"))
    assert "Not finished. interrupted; go on with: edgewright" in text_of(page)
    assert page.index("Not finished") < page.index("<main>")
