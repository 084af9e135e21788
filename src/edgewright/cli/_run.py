"""``edgewright run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgewright.cli._results import describe_results
from edgewright.core import Boxes, ClassMask
from edgewright.errors import StorageError, UsageError

if TYPE_CHECKING:
    from edgewright.runtime import Prediction, Session


def run(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.edge).")],
    input_file: Annotated[Path, typer.Option("--input", help="An image, a .wav recording, a .npy "
                                                             "array, or a .npz with one array per "
                                                             "input.")],
    point: Annotated[str | None, typer.Option(help="Operating point; default: the bundle's.")]
        = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show.")] = 5,
    drawing: Annotated[Path | None, typer.Option("--draw", help="Draw the boxes or the mask over "
                                                                "the image into this file.")]
        = None,
) -> None:
    """Run a bundle on one input and print the decoded result. Never imports torch.

    Examples:
      edgewright run runs/r20/model.edge --input cat.png

      edgewright run runs/r20/model.edge --input cat.png --point saver

      edgewright run runs/digits/model.edge --input seven.wav

      edgewright run runs/cells/model.edge --input cells.jpg --draw boxes.png
    """
    from edgewright.runtime import load

    session = load(bundle)
    if drawing is not None:
        _check_drawing(session, bundle, input_file)
    if point is not None:
        session.point = point
    inputs = session.read(input_file)
    session(*inputs)  # the first call includes the engine's set-up
    prediction = session(*inputs)
    taken = next(one for one in session.points if one.name == prediction.point)
    results = session.decode(prediction, input_file) if session.model.decoding else []
    for line in describe_results(results, top) if results else _describe_raw(prediction):
        typer.echo(line)
    where = f" of {taken.name}" if len(session.points) > 1 else ""
    typer.echo(f"exit {prediction.exit[0] + 1} of {len(taken.path)}{where}, "
               f"{prediction.latency_ms:.3f} ms on {session.runtime}")
    if drawing is not None:
        _draw(input_file, results[0], drawing)


def _describe_raw(prediction: Prediction) -> list[str]:
    """Shape and mean of every output, for a bundle that names no decoding."""
    lines = [f"shape {output.shape}, mean {output.mean():.6g}" for output in prediction.outputs]
    return lines if len(lines) == 1 else [f"output {index}: {line}"
                                          for index, line in enumerate(lines)]


def _check_drawing(session: Session, bundle: Path, source: Path) -> None:
    """Refuse to draw without a picture, or without boxes and a mask."""
    from edgewright.runtime import is_picture

    if not is_picture(source):
        holds = "is a recording" if source.suffix.lower() == ".wav" else "holds arrays"
        raise UsageError(f"--draw needs a picture, but {source} {holds}; give an image as "
                         "--input, or leave --draw out")
    if not any(isinstance(step, Boxes | ClassMask) for step in session.model.decoding):
        raise UsageError(f"--draw draws boxes or a mask, but {bundle} has neither (its goal is "
                         f"{session.model.goal}); leave it out")


def _draw(source: Path, result: Any, target: Path) -> None:
    from edgewright.runtime import draw

    drawn = draw(source, result)
    try:
        drawn.save(target)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"{target} cannot be written: {reason}; name a file such as "
                           "boxes.png in a folder that exists") from error
    typer.echo(f"drawing: {target}")
