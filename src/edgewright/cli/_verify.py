"""``edgewright verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.edge).")],
    data: Annotated[str, typer.Option(help="The data it was made with; its test split is used.")],
) -> None:
    """Run a bundle again and compare its metrics with its manifest; exit code 4 if they deviate.

    Tolerances: metrics that are fractions 0.1 points (or two samples if that is more), other
    metrics 0.5 %, mean MACs and energy 2 %.

    Example:
      edgewright verify runs/r20/model.edge --data cifar10:data/cifar10
    """
    from edgewright.bundle import read_bundle
    from edgewright.cli._refs import load_bundle_task
    from edgewright.pipeline import verify as check_bundle

    manifest = read_bundle(bundle).manifest
    task = load_bundle_task(data, manifest.model)
    for check in check_bundle(bundle, task):
        typer.echo(f"ok  {check}")
    parity = manifest.report.parity
    for output in () if parity is None else parity.outputs:
        typer.echo(f"according to the manifest, file and simulation: {output}")
    for breach in manifest.report.breaches:
        typer.echo(f"according to the manifest the budget is not met: {breach}")
