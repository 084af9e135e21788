"""Comparisons: original and compressed, the budget, simulation and file."""

from __future__ import annotations

from edgewright.core import (
    CONSTRAINTS,
    COSTS,
    Parity,
    ResolvedLimit,
    RunReport,
    format_percent,
    format_significant,
)
from edgewright.report._html import Markup, el, typeset
from edgewright.report._rows import Row, comparison_rows, rows_between
from edgewright.report._tables import figure_cell, row, section, table, value
from edgewright.report._text import (
    format_difference,
    format_figure,
    format_margin,
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


def _limit(report: RunReport, name: str, limit: ResolvedLimit) -> Markup:
    found = report.compressed.find(limit.figure.name)
    margin = "unknown" if found is None else format_margin(limit.figure, found.value, limit.bound)
    broken = any(breach.constraint == name for breach in report.breaches)
    return row(name, _bound(report, name, limit), el("td", value(found)),
               el("td", typeset(margin), class_="change worse" if broken else "change"),
               class_="broken" if broken else None)


def _bound(report: RunReport, name: str, limit: ResolvedLimit) -> Markup:
    side = "at most" if limit.at_most else "at least"
    bound = el("data", format_figure(limit.figure, limit.bound), value=limit.bound)
    return el("td", f"{side} ", bound, typeset(_describe_bound(report, name, limit)))


def _describe_bound(report: RunReport, name: str, limit: ResolvedLimit) -> str:
    """What the bound is relative to, in brackets; empty if it is absolute."""
    if name == "max_drop":
        before = report.original.get(limit.figure.name)
        loss = 0.0 if before is None else abs(before - limit.bound)
        drop = format_difference(limit.figure, loss).lstrip("+")
        side = "above" if limit.at_most else "below"
        return " (no drop)" if drop == "same" else f" ({drop} {side} the original)"
    if name in CONSTRAINTS and (given := getattr(report.budget, name)).relative:
        return f" ({format_significant(100 * given.value)} % of the original)"
    return ""


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
    if row.original is None or row.compressed is None or row.figure not in COSTS:
        return row.change
    return row.change if row.ratio is None else (
        "same" if row.ratio == 1 else f"{100 * (row.ratio - 1):+.3g} %")


def _parity(parity: Parity) -> Markup:
    facts: list[tuple[str, str]] = []
    for output in parity.outputs:
        of = f" of {output.name}" if output.name else " of the outputs"
        facts += [(f"Relative error{of}", f"{output.relative_error:.3g}"),
                  (f"Error{of} in steps of the last quantizer", output.describe_steps()),
                  (f"Agreement{of} ({output.decision})", format_percent(output.agreement, 2))]
    facts.append(("Compared on", f"{parity.samples:,} samples, {parity.split} split"))
    return el("dl", *(el("div", el("dt", name), el("dd", text)) for name, text in facts),
              class_="facts-list")
