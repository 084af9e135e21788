"""Original against compressed, limit by limit, and the simulation against the file."""

from __future__ import annotations

from edgewright.core import CONSTRAINTS, Manifest, Parity
from edgewright.report._html import Markup, el, typeset
from edgewright.report._rows import Row, comparison_rows, rows_between
from edgewright.report._tables import figure_cell, row, section, table, value
from edgewright.report._text import format_figure, margin_words, points_words, significant


def comparison(manifest: Manifest) -> Markup:
    """Write the table of every figure, before and after."""
    rows = [row(r.label, figure_cell(r.original, "Original"),
                figure_cell(r.compressed, "Compressed"), _change(r), class_=r.verdict)
            for r in comparison_rows(manifest)]
    if not rows:
        return Markup("")
    return section("Original against compressed",
                   table(("Figure", "Original", "Compressed", "Change"), rows, "compare"))


def _change(row: Row) -> Markup:
    spread = el("small", "within the spread of the runs") if row.within_spread else ""
    return el("td", el("span", typeset(row.change), class_=f"change {row.verdict}"), spread,
              class_="changed")


def budget(manifest: Manifest) -> Markup:
    """Write every limit of the budget: what was asked, what was found, what is left."""
    limits = manifest.budget.limits(manifest.original)
    if not limits:
        return Markup("")
    rows = [_limit(manifest, name, limit) for name, limit in limits.items()]
    return section("Budget", table(("Limit", "Asked", "Found", "Margin"), rows, "budget"))


def _limit(manifest: Manifest, name: str, limit: float) -> Markup:
    figure = CONSTRAINTS[name].figure
    found = manifest.compressed.find(figure)
    margin = "not known" if found is None else margin_words(figure, found.value, limit)
    broken = any(breach.constraint == name for breach in manifest.breaches)
    return row(name, _asked(manifest, name, limit), el("td", value(found)),
               el("td", typeset(margin), class_="change worse" if broken else "change"),
               class_="broken" if broken else None)


def _asked(manifest: Manifest, name: str, limit: float) -> Markup:
    given, figure = getattr(manifest.budget, name), CONSTRAINTS[name].figure
    side = "at least" if figure == "accuracy" else "at most"
    aside = ""
    if name == "max_drop":
        told = f"{points_words(given.value).lstrip('+')} below the original"
        aside = f" ({told if given.value else 'no drop'})"
    elif given.relative:
        aside = f" ({significant(100 * given.value)} % of the original)"
    bound = el("data", format_figure(figure, limit), value=limit)
    return el("td", f"{side} ", bound, typeset(aside))


def agreement(manifest: Manifest) -> Markup:
    """Write the simulated figures beside the file's, and the parity of their outputs."""
    rows = [row(r.label, figure_cell(r.original, "Simulated"), figure_cell(r.compressed, "File"),
                el("td", typeset(_difference(r)), class_="changed"))
            for r in rows_between(manifest.simulated, manifest.compressed)
            if r.original is not None]
    parts = [table(("Figure", "Simulated in PyTorch", "The file on its runtime", "Difference"),
                   rows, "compare")] if rows else []
    if manifest.parity is not None:
        parts.append(_parity(manifest.parity))
    return section("Simulation against the file", *parts)


def _difference(row: Row) -> str:
    if row.original is None or row.compressed is None or row.figure == "accuracy":
        return row.change
    return row.change if row.ratio is None else (
        "same" if row.ratio == 1 else f"{100 * (row.ratio - 1):+.3g} %")


def _parity(parity: Parity) -> Markup:
    facts = (("Relative error of the outputs", f"{parity.relative_error:.3g}"),
             ("Top-1 agreement", f"{100 * parity.top1_agreement:.2f} %"),
             ("Compared on", f"{parity.samples:,} samples, {parity.split} split"))
    return el("dl", *(el("div", el("dt", name), el("dd", words)) for name, words in facts),
              class_="facts-list")
