"""``edgewright bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from edgewright.core import Manifest
from edgewright.measure import Latency


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.edge).")],
    against: Annotated[Path | None, typer.Option(help="Another bundle, run in turn with it.")]
        = None,
    device: Annotated[str | None, typer.Option(
        help="Address of an agent (edgewright device serve) to measure on.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each that count.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the random inputs.")] = 0,
) -> None:
    """Measure a bundle's latency: batch 1, one thread on one core, random inputs.

    With early exits the latency depends on the input; random inputs rarely leave early, so this
    is near the worst case. Two bundles run in turn, so that their ratio holds on a noisy machine.

    Example:
      edgewright bench runs/r20/model.edge --against runs/r20/baseline.edge
    """
    paths = [bundle] if against is None else [bundle, against]
    if device is None:
        found = measure(paths, rounds, seed)
    else:
        from edgewright.device import bench_remotely

        found = bench_remotely(device, paths, rounds=rounds, seed=seed)
    Console().print(_table([str(path) for path in paths], found))


def measure(paths: list[Path], rounds: int, seed: int) -> list[Latency]:
    """Latency of bundles on this machine, interleaved."""
    from edgewright.device import bench_here

    return bench_here(paths, rounds=rounds, seed=seed)


def _table(names: list[str], found: list[Latency]) -> Table:
    table = Table("bundle", "median", "p10 .. p90", "mean", "ratio", title="latency, measured",
                  title_justify="left")
    for name, latency in zip(names, found, strict=True):
        ratio = found[0].median_ms / latency.median_ms
        table.add_row(name, f"{latency.median_ms:.3f} ms",
                      f"{latency.low_ms:.3f} .. {latency.high_ms:.3f}", f"{latency.mean_ms:.3f} ms",
                      "" if latency is found[0] else f"{ratio:.2f}")
    return table
