"""``edgewright run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from edgewright.core import ModelSpec, format_percent


def run(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.edge).")],
    input_file: Annotated[Path, typer.Option("--input", help="An image, a .npy array, or a .npz "
                                                             "with one array per input.")],
    point: Annotated[str | None, typer.Option(help="Operating point; default: the bundle's.")]
        = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 5,
) -> None:
    """Run a bundle on one input and print the result. Never imports torch.

    Examples:
      edgewright run runs/r20/model.edge --input cat.png

      edgewright run runs/r20/model.edge --input cat.png --point saver
    """
    from edgewright.runtime import load, read_input

    session = load(bundle)
    if point is not None:
        session.point = point
    inputs = read_input(input_file, session.model)
    session(*inputs)  # the first call includes the engine's set-up
    prediction = session(*inputs)
    taken = next(one for one in session.points if one.name == prediction.point)
    for index, output in enumerate(prediction.outputs):
        for line in _describe(output, session.model, top):
            typer.echo(line if len(prediction.outputs) == 1 else f"output {index}: {line}")
    where = f" of {taken.name}" if len(session.points) > 1 else ""
    typer.echo(f"exit {prediction.exit[0] + 1} of {len(taken.path)}{where}, "
               f"{prediction.latency_ms:.3f} ms on {session.runtime}")


def _describe(output: NDArray[np.float32], model: ModelSpec, top: int) -> list[str]:
    if output.ndim != 2:
        return [f"shape {output.shape}, mean {output.mean():.6g}"]
    lines = []
    for row in output:
        shifted = np.exp(row.astype(np.float64) - row.max())
        probabilities = shifted / shifted.sum()
        for index in np.argsort(-row, kind="stable")[:top]:
            known = model.classes or ()
            name = known[index] if index < len(known) else f"class {index}"
            lines.append(f"{format_percent(probabilities[index], 2):>8}  {name}")
    return lines
