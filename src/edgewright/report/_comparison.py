"""Comparisons: original and compressed, the budget, simulation and file."""

from __future__ import annotations

from edgewright.core import CONSTRAINTS, Parity, RunReport, format_percent
from edgewright.report._html import Markup, el, typeset
from edgewright.report._rows import Row, comparison_rows, rows_between
from edgewright.report._tables import figure_cell, row, section, table, value
from edgewright.report._text import (
    format_figure,
    format_margin,
    format_points,
    format_significant,
)


def comparison_table(report: RunReport) -> Markup:
    """Table of every figure, before and after."""
    rows = [row(r.label, figure_cell(r.original, "Original"),
                figure_cell(r.compressed, "Compressed"), _change(r), class_=r.verdict)
            for r in comparison_rows(report)]
    if not rows:
        return Markup("")
    return section("Original and compressed",
                   table(("Figure", "Original", "Compressed", "Change"), rows, "compare"))


def _change(row: Row) -> Markup:
    spread = el("small", "within the spread of the runs") if row.within_spread else ""
    return el("td", el("span", typeset(row.change), class_=f"change {row.verdict}"), spread,
              class_="changed")


def budget_table(report: RunReport) -> Markup:
    """Table of the budget's limits, the figures found, and the margins."""
    limits = report.budget.limits(report.original)
    if not limits:
        return Markup("")
    rows = [_limit(report, name, limit) for name, limit in limits.items()]
    return section("Budget", table(("Constraint", "Limit", "Found", "Margin"), rows, "budget"))


def _limit(report: RunReport, name: str, limit: float) -> Markup:
    figure = CONSTRAINTS[name].figure
    found = report.compressed.find(figure)
    margin = "unknown" if found is None else format_margin(figure, found.value, limit)
    broken = any(breach.constraint == name for breach in report.breaches)
    return row(name, _bound(report, name, limit), el("td", value(found)),
               el("td", typeset(margin), class_="change worse" if broken else "change"),
               class_="broken" if broken else None)


def _bound(report: RunReport, name: str, limit: float) -> Markup:
    given, figure = getattr(report.budget, name), CONSTRAINTS[name].figure
    side = "at least" if figure == "accuracy" else "at most"
    aside = ""
    if name == "max_drop":
        drop = f"{format_points(given.value).lstrip('+')} below the original"
        aside = f" ({drop if given.value else 'no drop'})"
    elif given.relative:
        aside = f" ({format_significant(100 * given.value)} % of the original)"
    bound = el("data", format_figure(figure, limit), value=limit)
    return el("td", f"{side} ", bound, typeset(aside))


def parity_table(report: RunReport) -> Markup:
    """Table of the simulated figures and the file's, and the parity of their outputs."""
    rows = [row(r.label, figure_cell(r.original, "Simulated"), figure_cell(r.compressed, "File"),
                el("td", typeset(_difference(r)), class_="changed"))
            for r in rows_between(report.simulated, report.compressed)
            if r.original is not None]
    parts = [table(("Figure", "Simulated in PyTorch", "File on its runtime", "Difference"),
                   rows, "compare")] if rows else []
    if report.parity is not None:
        parts.append(_parity(report.parity))
    return section("Simulation and exported file", *parts)


def _difference(row: Row) -> str:
    if row.original is None or row.compressed is None or row.figure == "accuracy":
        return row.change
    return row.change if row.ratio is None else (
        "same" if row.ratio == 1 else f"{100 * (row.ratio - 1):+.3g} %")


def _parity(parity: Parity) -> Markup:
    facts = (("Relative error of the outputs", f"{parity.relative_error:.3g}"),
             ("Top-1 agreement", format_percent(parity.top1_agreement, 2)),
             ("Compared on", f"{parity.samples:,} samples, {parity.split} split"))
    return el("dl", *(el("div", el("dt", name), el("dd", text)) for name, text in facts),
              class_="facts-list")
