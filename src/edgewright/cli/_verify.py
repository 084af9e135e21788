"""``edgewright verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.edge).")],
    data: Annotated[str, typer.Option(help="The data it was made with; its test split is used.")],
) -> None:
    """Run a bundle again and hold it to what its manifest says; exit 4 where it does not hold.

    Tolerances: accuracy 0.1 point (or two samples, where that is more), mean MACs and energy 2 %.

    Example:
      edgewright verify runs/r20/model.edge --data cifar10:data/cifar10
    """
    from edgewright.bundle import read_bundle
    from edgewright.cli._refs import load_bundle_task
    from edgewright.pipeline import verify as check_bundle

    manifest = read_bundle(bundle).manifest
    task = load_bundle_task(data, manifest)
    for check in check_bundle(bundle, task):
        typer.echo(f"held  {check}")
    for breach in manifest.breaches:
        typer.echo(f"the manifest says that its budget is not met: {breach}")
