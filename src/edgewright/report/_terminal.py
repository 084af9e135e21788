"""The comparison of original and compressed, for a terminal."""

from __future__ import annotations

from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from edgewright.core import Manifest, Measurement, RunReport
from edgewright.report._precision import slowdown_warning
from edgewright.report._rows import Verdict, comparison_rows
from edgewright.report._text import format_breach, format_figure, printable

_STYLES: Final[dict[Verdict, str]] = {"better": "green", "worse": "red", "same": "dim",
                                      "unknown": "dim"}


def summary_table(manifest: Manifest) -> Table:
    """Build the terminal's table that compares original and compressed.

    Args:
        manifest: The bundle's manifest. Figures that neither file has are omitted.

    Returns:
        A table with the columns figure, original, compressed, change, and source (measured or
        modelled). Its caption states whether the budget is met, and warns of a file that is slower
        than the original or than in floating point.
    """
    model, report = manifest.model, manifest.report
    table = Table(title=Text(printable(f"{model.name} on {report.data}"), style="bold"),
                  caption=_caption(report), caption_justify="left", title_justify="left",
                  box=SIMPLE_HEAD)
    table.add_column("Figure", no_wrap=True)
    table.add_column("Original", justify="right")
    table.add_column("Compressed", justify="right")
    table.add_column("Change", justify="right")
    table.add_column("Source", style="dim")
    for row in comparison_rows(report):
        change = row.change + (" (within the spread)" if row.within_spread else "")
        table.add_row(Text(row.label), _value(row.original), _value(row.compressed),
                      Text(change, style=_STYLES[row.verdict]), Text(row.kinds))
    return table


def _value(measurement: Measurement | None) -> Text:
    if measurement is None:
        return Text("-", style="dim")
    return Text(format_figure(measurement.spec, measurement.value))


def _caption(report: RunReport) -> Text:
    warning = slowdown_warning(report)
    unfinished = f"\nNot finished: {printable(report.unfinished)}" if report.unfinished else ""
    return Text.assemble(_verdict(report), (unfinished, "yellow"),
                         (f"\n{warning}" if warning else "", "yellow"))


def _verdict(report: RunReport) -> Text:
    if report.breaches:
        breaches = "\n".join(f"  {format_breach(breach)}" for breach in report.breaches)
        return Text(f"Budget exceeded:\n{breaches}", style="red")
    if not report.budget.limits(report.original):
        return Text("No budget was set.", style="dim")
    return Text("Budget met.", style="green")
