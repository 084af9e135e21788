"""What a session needs to know of a bundle before it runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edgewright.bundle import Bundle
from edgewright.core import Manifest, OperatingPoint, TensorSpec
from edgewright.errors import BundleError

_RUNTIME: Final = "onnxruntime"


def runnable_points(bundle: Bundle) -> tuple[OperatingPoint, ...]:
    """Its operating points, the default first.

    Raises:
        BundleError: The bundle is for another runtime, or its segments do not fit together.
    """
    manifest = bundle.manifest
    if manifest.runtime != _RUNTIME:
        raise BundleError(f"{bundle.path} is for the runtime {manifest.runtime!r}, and a session "
                          f"runs {_RUNTIME!r}; compress for that target")
    if not (manifest.inputs and manifest.outputs):
        raise BundleError(f"{bundle.path} states {len(manifest.inputs)} inputs and "
                          f"{len(manifest.outputs)} outputs, and a model has one of each at least; "
                          "compress it again")
    for spec in (*manifest.inputs, *manifest.outputs):
        _check_dtype(spec, bundle)
    if len(manifest.segments) > 1 and not manifest.points:
        raise BundleError(f"{bundle.path} has {len(manifest.segments)} segments and no operating "
                          "point that says when to leave them; compress it again")
    points = manifest.points or (manifest.point,)
    if len(manifest.outputs) != 1 and any(point.rules for point in points):
        raise BundleError(f"{bundle.path} has early exits and {len(manifest.outputs)} outputs; "
                          "only a model with one output can leave early")
    return points


def _check_dtype(spec: TensorSpec, bundle: Bundle) -> None:
    try:
        np.dtype(spec.dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise BundleError(f"{bundle.path} states that {spec.name!r} is of the type "
                          f"{spec.dtype!r}, which numpy does not know ({error}); compress it again"
                          ) from error


def output_names(manifest: Manifest, points: Sequence[OperatingPoint]) -> list[tuple[str, ...]]:
    """Of each segment's answers: the model's outputs where a point ends there, else an exit's."""
    last = {point.path[-1] for point in points}
    names = tuple(spec.name for spec in manifest.outputs)
    return [names if number in last else ("logits",)
            for number in range(len(manifest.segments))]
