"""``edgewright report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgewright.errors import BundleError


def report(
    run: Annotated[Path, typer.Argument(help="A run directory, or a bundle (.edge).")],
    out: Annotated[Path | None, typer.Option(help="Where to write the page; default: report.html "
                                                  "next to the bundle.")] = None,
) -> None:
    """Write a run's report as one self-contained HTML page, and print its table.

    Example:
      edgewright report runs/r20
    """
    from edgewright.bundle import read_bundle
    from edgewright.core import SearchRecord, write_atomically
    from edgewright.report import render_html, route_table, summary_table

    bundle = run / "model.edge" if run.is_dir() else run
    if run.is_dir() and not bundle.is_file():
        raise BundleError(f"{run} contains no model.edge; the run has not finished: repeat its "
                          "compress command to resume it")
    manifest = read_bundle(bundle).manifest
    page = out or bundle.parent / "report.html"
    searched = bundle.with_name("search.json")
    search = (SearchRecord.model_validate_json(searched.read_bytes())
              if run.is_dir() and searched.is_file() else None)
    write_atomically(page, render_html(manifest, search).encode())
    console = Console()
    console.print(summary_table(manifest))
    branches = route_table(manifest)
    if branches is not None:
        console.print(branches)
    console.print(f"report: {page}", highlight=False)
