"""Original against compressed, for a terminal."""

from __future__ import annotations

from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from edgewright.core import Manifest, Measurement
from edgewright.report._precision import slow_words
from edgewright.report._rows import Verdict, comparison_rows
from edgewright.report._text import breach_words, format_figure, printable

_STYLES: Final[dict[Verdict, str]] = {"better": "green", "worse": "red", "same": "dim",
                                      "unknown": "dim"}


def summary_table(manifest: Manifest) -> Table:
    """Build the terminal's table of original against compressed.

    Args:
        manifest: Of the bundle. A figure that neither file has is left out.

    Returns:
        A table with the columns figure, original, compressed, change, and whether the figures are
        measured or modelled; its caption says whether the budget is held, and warns of a file that
        is slower than the original or than in floating point.
    """
    table = Table(title=Text(printable(f"{manifest.model} on {manifest.data}"), style="bold"),
                  caption=_caption(manifest), caption_justify="left", title_justify="left",
                  box=SIMPLE_HEAD)
    table.add_column("Figure", no_wrap=True)
    table.add_column("Original", justify="right")
    table.add_column("Compressed", justify="right")
    table.add_column("Change", justify="right")
    table.add_column("Taken", style="dim")
    for row in comparison_rows(manifest):
        change = row.change + (" (within the spread)" if row.within_spread else "")
        table.add_row(Text(row.label), _value(row.original), _value(row.compressed),
                      Text(change, style=_STYLES[row.verdict]), Text(row.kinds))
    return table


def _value(measurement: Measurement | None) -> Text:
    if measurement is None:
        return Text("-", style="dim")
    return Text(format_figure(measurement.name, measurement.value))


def _caption(manifest: Manifest) -> Text:
    slow = slow_words(manifest)
    return Text.assemble(_verdict(manifest), (f"\n{slow}" if slow else "", "yellow"))


def _verdict(manifest: Manifest) -> Text:
    if manifest.breaches:
        words = "\n".join(f"  {breach_words(breach)}" for breach in manifest.breaches)
        return Text(f"Budget breached:\n{words}", style="red")
    if not manifest.budget.limits(manifest.original):
        return Text("No budget was set.", style="dim")
    return Text("Budget held.", style="green")
