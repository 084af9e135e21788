"""The routes section: which branch the samples take, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from edgewright.core import Manifest, RouteProfile, format_count, format_percent
from edgewright.report._charts import bar
from edgewright.report._html import Markup, el
from edgewright.report._tables import row, section, table


def routes_section(manifest: Manifest) -> Markup:
    """The share of samples per branch; nothing for a model without routes."""
    routes = manifest.report.routes
    if not routes:
        return Markup("")
    rows = [row(name, el("td", el("div", bar(share, 0, 1), el("span", format_percent(share)),
                                  class_="meter"), el("small", count)), macs)
            for name, share, count, macs in _branches(routes)]
    return section("Branches", table(("Branch", "Take it", "MACs in it"), rows, "exits"),
                   lead=_summarize(manifest))


def route_table(manifest: Manifest) -> Table | None:
    """The terminal's table of branches, of a model that chooses its path; else None."""
    if not manifest.report.routes:
        return None
    found = Table("branch", "take it", "samples", "MACs in it", title="branches",
                  title_justify="left")
    for name, share, count, macs in _branches(manifest.report.routes):
        found.add_row(name, format_percent(share), count, macs)
    return found


def _branches(routes: tuple[RouteProfile, ...]) -> Iterator[tuple[str, float, str, str]]:
    """Name, share, count of samples, and mean MACs of every branch of every route."""
    for number, route in enumerate(routes):
        of = f"Route {number + 1}, branch" if len(routes) > 1 else "Branch"
        for branch, (share, macs) in enumerate(zip(route.shares, route.macs, strict=True)):
            yield (f"{of} {branch}", share,
                   f"{round(share * route.samples):,} of {route.samples:,} samples",
                   "not taken" if macs is None else format_count(round(macs)))


def _summarize(manifest: Manifest) -> str:
    macs = manifest.report.compressed.get("macs")
    per = ("for the samples of a call together" if manifest.model.decides_per_call
           else "for every sample")
    mean = "" if macs is None else (f" On average a {manifest.report.routes[0].split} sample needs "
                                    f"{format_count(round(macs))} MACs, those outside of the "
                                    "branches included.")
    return f"The model chooses its path {per}; only the branch taken runs.{mean}"
