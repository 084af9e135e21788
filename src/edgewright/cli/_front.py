"""``edgewright front`` and ``edgewright pick``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from edgewright.core import Budget, format_metric, format_percent, format_size

_STORE: Final = ("The --store of the search, needed only if it has a password; its directory knows "
                 "the rest.")


def front(
    run: Annotated[Path, typer.Argument(help="The directory of a search.")],
    store: Annotated[str | None, typer.Option(metavar="URL", help=_STORE)] = None,
) -> None:
    """List the files of a search that no other dominates in size, latency and metric.

    Example:
      edgewright front runs/digits
    """
    from edgewright.search import compare_with_predictions, read_front

    table = Table("", "File", "Size", "Latency, median", "Metric", "Split", box=None)
    for entry in read_front(run, store):
        metric = entry.figures.metric
        latency = entry.figures.get("latency_ms")
        table.add_row("*" if entry.is_chosen else "", str(entry.bundle),
                      format_size(entry.figures["size_bytes"]),
                      "" if latency is None else f"{latency:.3g} ms",
                      "" if metric is None else
                      f"{metric.name} {format_metric(metric.spec, metric.value)}",
                      "test" if entry.is_tested else "val")
    console = Console()
    console.print(table)
    for name, (error, correlation) in compare_with_predictions(run, store).items():
        console.print(f"predicted {name}: mean error {format_percent(error)}, rank correlation "
                      f"{correlation:.2f}", highlight=False)


def pick(
    run: Annotated[Path, typer.Argument(help="The directory of a search.")],
    budget: Annotated[str, typer.Option(help="As for compress, for example size=100kB,drop=2%.")],
    out: Annotated[Path, typer.Option(help="Where the bundle is copied to.")],
    store: Annotated[str | None, typer.Option(metavar="URL", help=_STORE)] = None,
) -> None:
    """Choose another file of a search by a budget, without training again.

    Example:
      edgewright pick runs/digits --budget size=50kB --out small.edge
    """
    from edgewright.search import pick as pick_file

    entry = pick_file(run, Budget.parse(budget), out, store)
    tested = "verified on the test split" if entry.is_tested else (
        "measured on the validation split only; run edgewright verify")
    typer.echo(f"{entry.bundle} copied to {out} ({tested})")
