"""The page's header: what was compressed, whether the budget is met, and the main figures."""

from __future__ import annotations

from typing import Final

from edgewright.core import COSTS, CostName, Manifest, RunReport
from edgewright.report._html import Markup, el, join, typeset
from edgewright.report._rows import Row, comparison_rows, rows_between
from edgewright.report._tables import value
from edgewright.report._text import format_breach, format_figure

_COST_TILES: Final[tuple[tuple[CostName, ...], ...]] = (
    ("size_bytes",), ("latency_ms", "mean_latency_ms"),
    ("energy_mj", "macs", "parameters"),
)
_COST_TILES_WITH_EXITS: Final[tuple[tuple[CostName, ...], ...]] = (
    _COST_TILES[0], ("mean_latency_ms", "latency_ms"), *_COST_TILES[2:])


def headline(manifest: Manifest) -> Markup:
    """The page's header: title, verdict, breaches, warnings, the main figures."""
    model, report = manifest.model, manifest.report
    rows = {row.figure: row for row in comparison_rows(report)
            if row.original is not None and row.compressed is not None}
    facts = (f"seed {report.seed}", model.runtime, report.machine)
    return el(
        "header",
        el("p", "Compression report", class_="kicker"),
        el("h1", el("bdi", model.name), " ", el("span", "on", class_="on"), " ",
           el("bdi", report.data)),
        el("p", join([el("span", fact) for fact in facts if fact], " "), class_="facts"),
        _verdict(report), _unfinished(report),
        *(_slower(row, "for the original") for row in rows.values()),
        *(_slower(row, "for the same network in floating point")
          for row in rows_between(report.unquantized, report.compressed)),
        el("ul", *_tiles(rows, len(model.segments) > 1), class_="tiles") if rows else "")


def _verdict(report: RunReport) -> Markup:
    count = len(report.budget.limits(report.original))
    if report.breaches:
        broken = len(report.breaches)
        title, class_ = "Budget exceeded", "verdict breached"
        text = f"{broken} limit{'s are' if broken > 1 else ' is'} not met:"
    elif not count:
        title, class_, text = "No budget was set", "verdict unset", "There are no limits to meet."
    else:
        title, class_ = "Budget met", "verdict held"
        text = ("The exported file meets its one limit." if count == 1 else
                f"The exported file meets all {count} limits.")
    breaches = [el("li", typeset(format_breach(breach))) for breach in report.breaches]
    return el("div", el("p", el("strong", title), " ", text),
              el("ul", *breaches) if breaches else "", class_=class_)


def _unfinished(report: RunReport) -> Markup:
    if not report.unfinished:
        return Markup("")
    return el("p", el("strong", "Not finished."), f" {report.unfinished}", class_="notice")


def _slower(row: Row, than: str) -> Markup:
    before, after = row.original, row.compressed
    if row.verdict != "worse" or before is None or after is None or (
            row.figure not in ("latency_ms", "mean_latency_ms")):
        return Markup("")
    which = "median" if row.figure == "latency_ms" else "mean"
    spread = " Each is within the other's spread." if row.within_spread else ""
    return el("p", el("strong", typeset(row.change.capitalize()), "."),
              f" The {which} latency is {format_figure(row.figure, after.value)}, compared with "
              f"{format_figure(row.figure, before.value)} {than}.{spread}",
              class_="notice")


def _tiles(rows: dict[str, Row], exits: bool) -> list[Markup]:
    primary = tuple(name for name in rows if name not in COSTS)[:1]
    tiles = (primary, *(_COST_TILES_WITH_EXITS if exits else _COST_TILES))
    chosen = (next((rows[name] for name in names if name in rows), None) for names in tiles)
    return [el("li", el("span", row.label, class_="tile-name"),
               el("span", value(row.compressed), class_="tile-value"),
               el("span", typeset(row.change), class_=f"change {row.verdict}"),
               el("span", "from ", value(row.original), class_="tile-from"))
            for row in chosen if row is not None]
