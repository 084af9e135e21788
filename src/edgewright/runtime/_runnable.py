"""Checks that a session makes before it runs a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edgewright.bundle import Bundle
from edgewright.core import ModelSpec, OperatingPoint, TensorSpec
from edgewright.errors import BundleError
from edgewright.runtime.decoding import Decoder

_RUNTIME: Final = "onnxruntime"


def find_runnable_points(bundle: Bundle) -> tuple[OperatingPoint, ...]:
    """The bundle's operating points, the default first.

    Raises:
        BundleError: The bundle is for another runtime, or its segments do not fit together.
    """
    model = bundle.manifest.model
    if model.runtime != _RUNTIME:
        raise BundleError(f"{bundle.path} is for the runtime {model.runtime!r}, but a session "
                          f"runs {_RUNTIME!r}; compress for that runtime")
    if not (model.inputs and model.outputs):
        raise BundleError(f"{bundle.path} has {len(model.inputs)} inputs and "
                          f"{len(model.outputs)} outputs, expected at least one of each; compress "
                          "it again")
    for spec in (*model.inputs, *model.outputs):
        _check_dtype(spec, bundle)
    if len(model.segments) > 1 and not (model.points or model.is_routed):
        raise BundleError(f"{bundle.path} has {len(model.segments)} segments but no operating "
                          "point with exit thresholds; compress it again")
    points = model.points or (model.default_point,)
    if len(model.outputs) != 1 and any(point.rules for point in points):
        raise BundleError(f"{bundle.path} has early exits and {len(model.outputs)} outputs; only "
                          "a model with one output can have early exits")
    for point in points:
        _check_scores(point, bundle)
    return points


def _check_scores(point: OperatingPoint, bundle: Bundle) -> None:
    """All exits of a point have scores in their files, or none; those in files need no policy."""
    scored = {bundle.manifest.model.segments[number].score is not None
              for number in point.path[:-1]}
    if scored == {True, False} or (True in scored and point.policy != "confidence"):
        raise BundleError(f"operating point {point.name!r} of {bundle.path} has the exit policy "
                          f"{point.policy!r}, and segments with and without a score of their own "
                          "cannot be mixed, nor scored by another policy than 'confidence'; "
                          "compress it again")


def _check_dtype(spec: TensorSpec, bundle: Bundle) -> None:
    try:
        np.dtype(spec.dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise BundleError(f"{bundle.path} gives {spec.name!r} the dtype {spec.dtype!r}, which "
                          f"numpy does not know ({error}); compress it again") from error


def make_decoder(bundle: Bundle) -> Decoder:
    """The decoder of the bundle's outputs.

    Raises:
        BundleError: A decoding step does not fit the outputs or the classes.
    """
    try:
        return Decoder(bundle.manifest.model)
    except BundleError as error:
        raise BundleError(f"{bundle.path}: {error}; compress it again") from error


def output_names(model: ModelSpec, points: Sequence[OperatingPoint]) -> list[tuple[str, ...]]:
    """Names of the outputs per segment: the model's if a point ends there, else an exit's.

    A segment with a wiring has the names that this gives.
    """
    if model.is_routed:
        return [segment.wiring.gives if segment.wiring else () for segment in model.segments]
    last = {point.path[-1] for point in points}
    names = tuple(spec.name for spec in model.outputs)
    return [names if number in last else ("logits",) if segment.score is None
            else (*names, segment.score) for number, segment in enumerate(model.segments)]
