"""``edgewright bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from edgewright.measure import Latency


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.edge).")],
    against: Annotated[Path | None, typer.Option(
        help="Another bundle to compare with, run interleaved.")] = None,
    device: Annotated[str | None, typer.Option(
        help="Address of an agent (edgewright device serve) to measure on.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each bundle.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
) -> None:
    """Measure a bundle's latency: batch 1, one thread on one core, random inputs.

    With early exits the latency depends on the input; random inputs rarely exit early, so this is
    close to the worst case. Two bundles run interleaved, so that their ratio is reliable on a noisy
    machine.

    Example:
      edgewright bench runs/r20/model.edge --against runs/r20/baseline.edge
    """
    from edgewright.device import bench_here, bench_remotely

    paths = [bundle] if against is None else [bundle, against]
    if device is None:
        found = bench_here(paths, rounds=rounds, seed=seed)
    else:
        found = bench_remotely(device, paths, rounds=rounds, seed=seed)
    Console().print(_table(paths, found, device or "this machine"))


def _table(paths: list[Path], found: list[Latency], where: str) -> Table:
    table = Table("bundle", "median", "p10 .. p90", "mean", "first / this",
                  title=f"latency, measured on {where}", title_justify="left")
    for path, latency in zip(paths, found, strict=True):
        ratio = found[0].median_ms / latency.median_ms
        table.add_row(str(path), f"{latency.median_ms:.3f} ms",
                      f"{latency.low_ms:.3f} .. {latency.high_ms:.3f}", f"{latency.mean_ms:.3f} ms",
                      "" if latency is found[0] else f"{ratio:.2f}")
    return table
