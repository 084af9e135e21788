"""A file slower than another says so: on the page, in the terminal, with the layers."""

from __future__ import annotations

import html
import io
import re
from typing import Any

import pytest
from rich.console import Console

from edgewright.core import Figures, LayerLatency, Manifest
from edgewright.report import render_html, summary_table
from edgewright.report._precision import slowdown_warning

LAYERS = tuple(LayerLatency(name=name, float_ms=before, int8_ms=after) for name, before, after in (
    ("layer3.0.conv1", 0.1, 0.35), ("stem", 0.2, 0.3), ("fc", 0.01, 0.02), ("exits.0", 0.01, 0.015)))


def timed(manifest: Manifest, unquantized: float, layers: tuple[Any, ...] = ()) -> Manifest:
    """With the latency in floating point; the original takes 4.12 ms, the file 2.04 ms."""
    latency = manifest.report.original.find("latency_ms")
    assert latency is not None
    median = latency.replace(
        value=unquantized, low=unquantized, high=unquantized)
    return manifest.with_report(unquantized=Figures.of(median), slow_layers=layers)


def page_text(manifest: Manifest) -> str:
    text = html.unescape(re.sub(r"<[^>]*>", "", render_html(manifest)))
    return text.replace("\u2212", "-").replace("\u00d7", "x")


def printed(manifest: Manifest) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(summary_table(manifest))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("unquantized", [None, 2.04, 3.0])
def test_a_fast_file_is_not_warned_of(manifest: Manifest, unquantized: float | None) -> None:
    fast = manifest if unquantized is None else timed(manifest, unquantized)
    assert slowdown_warning(fast.report) == ""
    assert "lower" not in printed(fast)
    assert "class=\"notice\"" not in render_html(fast)


def test_slower_than_in_floating_point_names_the_layers(manifest: Manifest) -> None:
    slow = timed(manifest, 1.7, LAYERS)
    words = slowdown_warning(slow.report)
    assert words == (
        "Slower than in floating point (1.2x). Slower in 8 bits, each measured in isolation: "
        "layer3.0.conv1 (0.35 ms, 0.1 ms in float), stem (0.3 ms, 0.2 ms in float), "
        "fc (0.02 ms, 0.01 ms in float) and 1 more.")
    assert words in " ".join(printed(slow).split())
    text = page_text(slow)
    assert ("Slower: 1.2x. The median latency is 2.04 ms, compared with 1.7 ms for the same network in "
            "floating point.") in text
    assert "takes 1.7 ms, after it 2.04 ms (slower: 1.2x)" in text
    assert "each measured in isolation on this machine" in text
    rows = [text.index(f"{layer.name}{layer.float_ms:g} ms{layer.int8_ms:g} ms") for layer in LAYERS]
    assert rows == sorted(rows)
    assert "0.1 ms0.35 msslower: 3.5x" in text


def test_slower_than_both(breached: Manifest) -> None:
    slow = timed(breached, 4.0, LAYERS[:1])
    assert slowdown_warning(slow.report).startswith(
        "Slower than the original (1.2x) and than in floating point (1.2x). Slower in 8 bits")


def test_slower_without_a_slow_layer_says_where_the_time_goes(manifest: Manifest) -> None:
    slow = timed(manifest, 1.7)
    words = "no layer is slower in 8 bits: the time is spent on quantizing values between layers"
    assert words in slowdown_warning(slow.report)
    assert words in page_text(slow)


def test_weights_that_are_only_stored_in_integers_have_no_slow_layer(manifest: Manifest) -> None:
    layers = tuple(layer.replace(compute_bits=32) for layer in manifest.report.layers)
    slow = timed(manifest.with_report(layers=layers), 1.7)
    words = "No layer computes in integers: only the weights are stored as integers."
    assert slowdown_warning(slow.report).endswith(words)
    assert words in page_text(slow)


def test_a_slow_file_that_never_was_quantised_names_no_bits(breached: Manifest) -> None:
    assert slowdown_warning(breached.report) == "Slower than the original (1.2x)."
    assert "Integers and" not in render_html(breached)


def test_what_integers_gain_is_told_too(manifest: Manifest) -> None:
    text = page_text(timed(manifest, 3.06))
    assert "takes 3.06 ms, after it 2.04 ms (1.5x faster): medians, measured interleaved." in text


def test_a_hostile_layer_is_escaped(manifest: Manifest) -> None:
    layer = LayerLatency(name="<script>\x1b[31m", float_ms=1, int8_ms=2)
    slow = timed(manifest, 1.7, (layer,))
    assert "<script" not in render_html(slow)
    assert "\x1b" not in slowdown_warning(slow.report)
