
from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import pytest

from edgewright.core import (
    AudioPreprocessing,
    CurvePoint,
    Figures,
    Guarantee,
    Manifest,
    Measurement,
    OperatingPoint,
    format_size,
)
from edgewright.report import render_html
from edgewright.report._text import format_breach, format_exact, format_figure

HOSTILE = "<script>alert('x')</script>\"&\x00\x1b[31m\u202e"
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Parses strictly: every element is closed in order; keeps text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.pieces: list[str] = []
        self.titles: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: Any, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: Any) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: Any) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return "".join(self.pieces).replace("\u2212", "-").replace("\u00d7", "x")


def render(manifest: Manifest) -> Page:
    return Page(render_html(manifest))


def all_figures(manifest: Manifest) -> list[Measurement]:
    groups = (manifest.report.original, manifest.report.compressed, manifest.report.simulated,
              *(stage.figures for stage in manifest.report.stages))
    return [m for figures in groups for m in figures.measurements]


@pytest.mark.parametrize("name", ["manifest", "breached", "bare"])
def test_page_is_well_formed(name: str, request: pytest.FixtureRequest) -> None:
    page = render(request.getfixturevalue(name))
    assert page.tags.count("html") == page.tags.count("body") == page.tags.count("h1") == 1


def test_drawings_are_well_formed_xml(manifest: Manifest) -> None:
    drawings = re.findall(r"<svg.*?</svg>", render_html(manifest), flags=re.DOTALL)
    assert len(drawings) == 2 + len(manifest.model.segments) + 2 * len(manifest.report.layers)
    roots = [ET.fromstring(drawing) for drawing in drawings]  # noqa: S314 - our own drawings
    assert {root.tag for root in roots} == {"svg"}


def test_nothing_is_loaded_and_nothing_runs(manifest: Manifest) -> None:
    html = render_html(manifest)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in page.attributes}
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_every_figure_appears_with_its_origin(manifest: Manifest) -> None:
    page = render(manifest)
    titles = {value for name, value in page.attributes if name == "title"}
    for measurement in all_figures(manifest):
        assert format_figure(measurement.name, measurement.value) in page.text
        assert format_exact(measurement.name, measurement.value) in titles
        assert measurement.runtime is None or measurement.runtime in page.text
    assert page.text.count("modelled") >= 6
    assert "p10 1.92 ms, p90 2.26 ms" in page.text
    assert "1,092,437 B" in page.text


def test_ratios_are_those_computed_by_hand(manifest: Manifest) -> None:
    text = render(manifest).text
    assert "-0.3 points" in text  # 91.43 - 91.73
    assert "7.1x smaller" in text  # 1,092,437 / 153,127 = 7.134
    assert "2.0x faster" in text  # 4.12 / 2.04 = 2.020
    assert "21x less" in text  # 0.188 / 0.0091 = 20.66


def test_headline_names_model_data_seed_and_verdict(manifest: Manifest) -> None:
    text = render(manifest).text
    assert "torchvision:resnet20 on cifar10" in text
    assert "seed 7" in text
    assert "Budget met The exported file meets all 3 limits" in text


def test_breaches_are_said_in_words(breached: Manifest) -> None:
    text = render(breached).text
    assert "Budget exceeded 3 limits are not met:" in text
    for breach in breached.report.breaches:
        assert format_breach(breach) in text
    assert "Budget met" not in text


def test_one_limit_is_singular(manifest: Manifest, breached: Manifest) -> None:
    one = render(breached.with_report(breaches=breached.report.breaches[:1])).text
    assert "1 limit is not met:" in one
    budget = type(manifest.report.budget)(size="160 kB")
    held = render(manifest.with_report(budget=budget)).text
    assert "The exported file meets its one limit" in held


def test_a_slower_file_is_called_slower(manifest: Manifest, breached: Manifest) -> None:
    assert "Slower: 1.2x. The median latency is 4.94 ms, compared with 4.12 ms" in render(breached).text
    assert "Slower" not in render(manifest).text


def test_simulation_and_parity_stand_beside_the_file(manifest: Manifest) -> None:
    text = render(manifest).text
    assert "91.46 %" in text
    assert "-0.03 points" in text
    assert "0.00312" in text
    assert "99.87 %" in text
    assert "10,000 samples, test split" in text


def test_stages_layers_exits_and_uncounted_appear(manifest: Manifest) -> None:
    page = render(manifest)
    for stage in manifest.report.stages:
        assert stage.name in page.text
        assert all(note in page.text for note in stage.notes)
    for layer in manifest.report.layers:
        assert layer.name in page.text
    assert "21 layers: 17 pruned, 1 removed, 1 added" in page.text
    assert "52.3 %" in page.text
    assert "5,234 of 10,000 samples" in page.text
    assert "0.885" in page.text
    assert "4.1 % to 1.2 %" in page.text
    assert "13.3 M" in page.text  # 6.2 M + 7.1 M
    # (0.5234 * 6.2 + 0.3111 * 13.3 + 0.1655 * 20.7) / 20.7
    assert "on average a sample needs 52.2 % of the MACs" in page.text
    assert "aten.grid_sampler" in page.text


def test_operating_points_and_their_promise_appear(manifest: Manifest) -> None:
    promise = Guarantee(epsilon=0.005, delta=0.05, samples=3750, split="val", p_value=0.03)
    figures = Figures.of(Measurement(name="accuracy", value=0.8811, kind="measured"),
                         Measurement(name="macs", value=2.5e6, kind="modelled"))
    points = (manifest.model.points[0].replace(guarantee=promise),
              OperatingPoint(name="saver", path=(0,), figures=figures))
    text = render(manifest.with_model(points=points)).text
    assert ("With probability 0.95, on data like the 3,750 val samples it was tested on, leaving "
            "early costs at most 0.5 points of accuracy.") in text
    for word in ("saver", "88.11 %", "2.5 M", "unknown"):
        assert word in text


def test_the_curve_of_the_exits_is_drawn_and_listed(manifest: Manifest) -> None:
    steps = ((None, None), 20.7e6, 0.9173), ((0.95, None), 14e6, 0.916), ((0, 0), 6.2e6, 0.8)
    curve = tuple(CurvePoint(thresholds=thresholds, macs=macs, accuracy=accuracy)
                  for thresholds, macs, accuracy in steps)
    figures = Figures.of(Measurement(name="accuracy", value=0.91, kind="measured"),
                         Measurement(name="macs", value=10.8e6, kind="modelled"))
    points = (manifest.model.points[0].replace(figures=figures),)
    known = manifest.with_report(curve=curve).with_model(points=points)
    html = render_html(known)
    assert html.count(">no early exits taken</text>") == html.count(">default</text>") == 2
    text = render(known).text
    for words in ("67.6 %", "91.60 %", "never, never", "0.95, never", "0, 0"):
        assert words in text
    assert "The curve in numbers" not in render(manifest).text


def test_chart_axes_carry_units(manifest: Manifest) -> None:
    html = render_html(manifest)
    assert html.count(">Accuracy (%)</text>") == 2
    assert html.count(">Size (kB)</text>") == 2
    assert html.count("budget: 160 kB</text>") == 2


def test_provenance_is_complete(manifest: Manifest) -> None:
    page = render(manifest)
    for words in (*manifest.report.versions, *manifest.report.versions.values(), manifest.report.machine,
                  *(segment.sha256 for segment in manifest.model.segments),
                  json.dumps(manifest.report.recipe, indent=2), "float32, N x 3 x 32 x 32"):
        assert words in page.text


def test_provenance_tells_how_a_recording_becomes_an_input(manifest: Manifest) -> None:
    recipe = AudioPreprocessing(sample_rate=8000, length=4000, frame_length=256, hop=128,
                                fft_size=512, mels=20, fmin=60, mean=-2.5)
    model = manifest.model.replace(preprocessing=recipe)
    assert ("4000 samples at 8000 Hz, 30 frames of 256 samples every 128, transform of 512, 20 mel "
            "bands (HTK) from 60 to 4000 Hz, logarithm of at least 1e-06, mean -2.5, std 1"
            ) in render(manifest.replace(model=model)).text


def test_layers_tell_the_bits_they_compute_in_where_those_are_more(manifest: Manifest) -> None:
    page = render(manifest)
    assert "4 (in 8) / 8" in page.text
    assert "8 (in" not in page.text


def test_files_tell_what_they_take_on_disk_and_unpacked(manifest: Manifest) -> None:
    page = render(manifest)
    segment = manifest.model.segments[0]
    assert "StoredUnpackedMACs" in page.text
    assert f"{format_size(segment.stored_bytes)}{format_size(segment.size_bytes)}" in page.text


def test_hostile_names_are_escaped(manifest: Manifest) -> None:
    layer = manifest.report.layers[0].replace(name=HOSTILE, op=HOSTILE)
    stage = manifest.report.stages[0].replace(name=HOSTILE, notes=(HOSTILE,))
    segment = manifest.model.segments[0].replace(file=HOSTILE)
    spec = manifest.model.inputs[0].replace(name=HOSTILE)
    point = manifest.model.points[0]
    figure = Measurement(name="accuracy", value=0.9, kind="measured", runtime=HOSTILE,
                         split=HOSTILE)
    breach = {"constraint": HOSTILE, "figure": "size_bytes", "value": 2.0, "limit": 1.0}
    model = manifest.model.model_dump() | {
        "name": HOSTILE, "runtime": HOSTILE, "classes": (HOSTILE,), "inputs": (spec,),
        "segments": (segment, *manifest.model.segments[1:]),
        "points": (point, OperatingPoint(name=HOSTILE, path=(0,)))}
    report = manifest.report.model_dump() | {
        "data": HOSTILE, "machine": HOSTILE, "recipe": {HOSTILE: HOSTILE + "\ud800"},
        "versions": {HOSTILE: HOSTILE}, "uncounted": (HOSTILE,), "layers": (layer,),
        "stages": (stage,), "compressed": Figures.of(figure), "breaches": (breach,)}
    page = render(Manifest.model_validate({"model": model, "report": report}))
    assert "script" not in page.tags
    assert "<script>alert('x')</script>" in page.text
    assert not any(mark in page.text for mark in ("\x00", "\x1b", "\u202e", "\ud800"))


def test_a_bare_manifest_leaves_sections_out(bare: Manifest) -> None:
    page = render(bare)
    assert "No budget was set" in page.text
    assert page.tags.count("section") == 0
    assert "table" not in page.tags
    assert page.tags.count("svg") == 0


def test_the_page_encodes_as_utf8_and_is_the_same_each_time(manifest: Manifest) -> None:
    html = render_html(manifest)
    assert html.encode() == render_html(manifest).encode()


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_odd_values_do_not_break_the_page(manifest: Manifest, value: Any) -> None:
    odd = Figures.of(*(m.replace(value=value)
                       for m in manifest.report.original.measurements))
    stages = tuple(stage.replace(figures=odd) for stage in manifest.report.stages)
    for side in ({"original": odd}, {"compressed": odd}, {"original": odd, "compressed": odd},
                 {"stages": stages}):
        assert render(manifest.with_report(**side)).tags.count("h1") == 1


def test_the_error_of_outputs_is_shown_in_steps(manifest: Manifest) -> None:
    text = render(manifest).text
    assert "Error of the outputs in steps of the last quantizer" in text
    assert "at most 1.25 steps (mean 0.0312)" in text
