"""The top of the page: what was compressed, whether the budget is held, and what was gained."""

from __future__ import annotations

from typing import Final

from edgewright.core import FigureName, Manifest
from edgewright.report._html import Markup, el, join, typeset
from edgewright.report._rows import Row, comparison_rows, rows_between
from edgewright.report._tables import value
from edgewright.report._text import breach_words, format_figure

_TILES: Final[tuple[tuple[FigureName, ...], ...]] = (
    ("accuracy",), ("size_bytes",), ("latency_ms", "mean_latency_ms"),
    ("energy_mj", "macs", "parameters"),
)
_TILES_WITH_EXITS: Final[tuple[tuple[FigureName, ...], ...]] = (
    *_TILES[:2], ("mean_latency_ms", "latency_ms"), *_TILES[3:])


def headline(manifest: Manifest) -> Markup:
    """Write the page's header: title, verdict, breaches, warnings, the main figures."""
    rows = {row.figure: row for row in comparison_rows(manifest)
            if row.original is not None and row.compressed is not None}
    facts = (f"seed {manifest.seed}", manifest.runtime, manifest.machine)
    return el(
        "header",
        el("p", "Compression report", class_="kicker"),
        el("h1", el("bdi", manifest.model), " ", el("span", "on", class_="on"), " ",
           el("bdi", manifest.data)),
        el("p", join([el("span", fact) for fact in facts if fact], " "), class_="facts"),
        _verdict(manifest), *(_slower(row, "for the original") for row in rows.values()),
        *(_slower(row, "for the same network in floating point")
          for row in rows_between(manifest.unquantized, manifest.compressed)),
        el("ul", *_tiles(rows, len(manifest.segments) > 1), class_="tiles") if rows else "")


def _verdict(manifest: Manifest) -> Markup:
    count = len(manifest.budget.limits(manifest.original))
    if manifest.breaches:
        broken = len(manifest.breaches)
        title, class_ = "Budget breached", "verdict breached"
        words = f"{broken} limit{'s are' if broken > 1 else ' is'} not held:"
    elif not count:
        title, class_, words = "No budget was set", "verdict unset", "Nothing was asked to be held."
    else:
        title, class_ = "Budget held", "verdict held"
        words = ("Its one limit is met by the exported file." if count == 1 else
                 f"All {count} limits are met by the exported file.")
    breaches = [el("li", typeset(breach_words(breach))) for breach in manifest.breaches]
    return el("div", el("p", el("strong", title), " ", words),
              el("ul", *breaches) if breaches else "", class_=class_)


def _slower(row: Row, than: str) -> Markup:
    before, after = row.original, row.compressed
    if row.verdict != "worse" or before is None or after is None or (
            row.figure not in ("latency_ms", "mean_latency_ms")):
        return Markup("")
    which = "median" if row.figure == "latency_ms" else "mean"
    spread = " Each lies within the other's spread." if row.within_spread else ""
    return el("p", el("strong", typeset(row.change.capitalize()), "."),
              f" The {which} latency is {format_figure(row.figure, after.value)}, against "
              f"{format_figure(row.figure, before.value)} {than}.{spread}",
              class_="notice")


def _tiles(rows: dict[FigureName, Row], exits: bool) -> list[Markup]:
    tiles = _TILES_WITH_EXITS if exits else _TILES
    chosen = (next((rows[name] for name in names if name in rows), None) for names in tiles)
    return [el("li", el("span", row.label, class_="tile-name"),
               el("span", value(row.compressed), class_="tile-value"),
               el("span", typeset(row.change), class_=f"change {row.verdict}"),
               el("span", "from ", value(row.original), class_="tile-from"))
            for row in chosen if row is not None]
