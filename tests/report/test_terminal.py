
from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from edgewright.core import Manifest
from edgewright.report import comparison_rows, summary_table


def printed(manifest: Any, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=110, **options)
    console.print(summary_table(manifest))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table_has_every_row_of_the_comparison(manifest: Manifest) -> None:
    text = printed(manifest)
    for row in comparison_rows(manifest.report):
        assert row.label in text
        assert row.change in text
    assert text.count("measured") == 5
    assert text.count("modelled") == 3
    assert "Budget met." in text


def test_table_names_breaches_and_missing_figures(breached: Manifest) -> None:
    text = printed(breached)
    assert "Budget exceeded:" in text
    assert "size: 192 kB, expected at most 160 kB (20 % over)" in text
    assert "ram: unknown, expected at most 64 kB" in text
    assert "slower: 1.2x" in text


def test_table_without_figures_or_budget(bare: Manifest) -> None:
    assert "No budget was set." in printed(bare)


def test_names_are_neither_markup_nor_escape_codes(manifest: Manifest) -> None:
    text = printed(manifest.with_model(name="[red]net[/red]\x1b[31m"),
                   force_terminal=False)
    assert "[red]net[/red]" in text
    assert "\x1b" not in text


def test_a_change_within_the_spread_says_so(manifest: Manifest) -> None:
    before = manifest.report.original.find("latency_ms")
    assert before is not None
    after = before.replace(value=before.value * 1.05)
    text = printed(manifest.with_report(compressed=manifest.report.compressed.with_(after)))
    assert "slower: 1.05x (within the spread)" in text
