"""``edgewright front`` and ``edgewright pick``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from edgewright.core import Budget, SearchRecord, format_percent, write_atomically
from edgewright.errors import UsageError

_STORE: Final = ("The --store of the search, needed only if it has a password; its directory knows "
                 "the rest.")


def front(
    run: Annotated[Path, typer.Argument(help="The directory of a search.")],
    plot: Annotated[list[Path] | None, typer.Option(
        help="Where the front is drawn, .svg or .html; may be repeated. Default: front.svg and "
             "front.html in the directory.")] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help=_STORE)] = None,
) -> None:
    """List and draw the files of a search that no other dominates in size, latency and score.

    In the table, * is the result of the search, and ! a file that exceeds a limit on a cost.

    Example:
      edgewright front runs/digits --plot front.svg
    """
    files = plot or [run / "front.svg", run / "front.html"]
    for file in files:
        if file.suffix not in (".svg", ".html"):
            raise UsageError(f"--plot {file}: a front is drawn as .svg or .html; choose one of "
                             "these endings")
    from edgewright.report import front_table
    from edgewright.search import read_record

    record, console = read_record(run, store), Console(highlight=False)
    console.print(front_table(record))
    console.print(f"The files are {run}/trials/FILE/model.edge, or trial.edge if the split is "
                  "val.", soft_wrap=True)
    for found in record.predictions:
        rank = ("" if found.rank_correlation is None else
                f", rank correlation {found.rank_correlation:.2f}")
        console.print(f"predicted {found.name}: mean error "
                      f"{format_percent(found.mean_error)}{rank}")
    for file in files:
        write_atomically(file, _draw(record, file, str(run)).encode())
        console.print(f"plot: {file}", soft_wrap=True)


def _draw(record: SearchRecord, file: Path, name: str) -> str:
    from edgewright.report import draw_front, render_front

    return draw_front(record) if file.suffix == ".svg" else render_front(record, name)


def pick(
    run: Annotated[Path, typer.Argument(help="The directory of a search.")],
    budget: Annotated[str, typer.Option(help="As for compress, for example size=100kB,drop=2%.")],
    out: Annotated[Path, typer.Option(help="Where the bundle is written.")],
    data: Annotated[str | None, typer.Option(
        help="The data of the search, to verify the file on the test split if the search has "
             "measured it on the validation split only.")] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help=_STORE)] = None,
) -> None:
    """Choose another file of a search by a budget, without training again.

    The exit code is 3 if no file is within the budget, or if the file breaks a limit on the test
    split.

    Example:
      edgewright pick runs/digits --budget size=50kB --data digits --out small.edge
    """
    limits = Budget.parse(budget)
    from edgewright.bundle import read_bundle
    from edgewright.cli._refs import load_bundle_task
    from edgewright.search import pick as pick_file

    task = None
    if data is not None:
        baseline = run / "trials" / "quantized" / "baseline.edge"
        task = load_bundle_task(data, read_bundle(baseline).manifest.model)
    picked = pick_file(run, limits, out, task, store=store)
    tested = "measured on the test split" if picked.is_tested else (
        "measured on the validation split only; give --data to verify it on the test split")
    typer.echo(f"{picked.name} written to {out} ({tested})")
    picked.check()
