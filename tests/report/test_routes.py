"""The report shows the branches of a model that chooses its path, and nothing for others."""

from __future__ import annotations

import io

from rich.console import Console

from edgewright.core import Manifest, RouteProfile
from edgewright.report import render_html, route_table

OUTER = RouteProfile(segment=0, split="test", samples=200, shares=(0.25, 0.75), macs=(10.0, 4e6))
INNER = RouteProfile(segment=2, split="test", samples=150, shares=(1.0, 0.0), macs=(5e3, None))


def printed(manifest: Manifest) -> str:
    console = Console(file=io.StringIO(), width=110)
    console.print(route_table(manifest))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_branch_has_its_share_and_cost(manifest: Manifest) -> None:
    routed = manifest.with_report(routes=(OUTER,))
    text = printed(routed)
    for part in ("Branch 0", "25.0 %", "50 of 200 samples", "Branch 1", "150 of 200 samples"):
        assert part in text
        assert part in render_html(routed)


def test_several_routes_are_told_apart(manifest: Manifest) -> None:
    text = printed(manifest.with_report(routes=(OUTER, INNER)))
    assert "Route 1, branch 1" in text
    assert "Route 2, branch 0" in text
    assert "not taken" in text


def test_a_model_without_routes_has_no_such_section(manifest: Manifest) -> None:
    assert route_table(manifest) is None
    assert "chooses its path" not in render_html(manifest)
