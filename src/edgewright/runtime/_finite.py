"""Reject NaN and infinity, which a network can turn into confident wrong answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core import TensorSpec
from edgewright.errors import DataError
from edgewright.runtime.engines import Arrays


def check_finite(specs: Sequence[TensorSpec], inputs: Arrays) -> None:
    """Reject inputs that contain NaN or infinity.

    Args:
        specs: The inputs' specs, for their names.
        inputs: Arrays of any dtype; integers are always finite.

    Raises:
        DataError: An input is not finite; the message names it and the first such element.

    Example:
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> check_finite([spec], (np.array([[1, 2], [3, np.nan]], dtype=np.float32),))
        Traceback (most recent call last):
            ...
        edgewright.errors.DataError: input 'x' contains NaN or infinite values: nan at \
index (1, 1) is the first of 1; repair the sample, or skip this check with validate=False
    """
    for spec, array in zip(specs, inputs, strict=True):
        if not _all_finite(array):
            raise DataError(f"input {spec.name!r} contains NaN or infinite values: "
                            f"{_describe_bad(array)}; repair the sample, or skip this check with "
                            "validate=False")


def check_outputs(names: Sequence[str], segment: str, outputs: Arrays) -> None:
    """Reject outputs of a segment that contain NaN or plus infinity.

    Minus infinity is allowed: it is the logit of an impossible class.

    Args:
        names: Names of the first outputs; only these are checked.
        segment: The segment's file.
        outputs: The segment's outputs, (N, ...) each.

    Raises:
        DataError: An output contains such a value; the message names the segment and the output.

    Example:
        >>> check_outputs(["y"], "segments/0.onnx", (np.array([[0.0, np.inf], [0.0, 0.0]]),))
        Traceback (most recent call last):
            ...
        edgewright.errors.DataError: segments/0.onnx returned NaN or infinite values in output 'y' \
for 1 of 2 samples; check the samples, then the model, or skip this check with validate=False
    """
    for name, array in zip(names, outputs, strict=False):
        if _all_finite(array):
            continue
        rows = np.atleast_1d(array)
        bad = (np.isnan(rows) | (rows == np.inf)).reshape(len(rows), -1).any(axis=1)
        if bad.any():
            raise DataError(f"{segment} returned NaN or infinite values in output {name!r} for "
                            f"{np.count_nonzero(bad)} of {len(bad)} samples; check the samples, "
                            "then the model, or skip this check with validate=False")


def _all_finite(array: NDArray[Any]) -> bool:
    # Exact, single-threaded, and the fastest of numpy's options for small arrays, where `.all()`
    # takes four times as long.
    return (array.dtype.kind not in "fc"
            or np.count_nonzero(np.isfinite(np.asarray(array))) == array.size)


def _describe_bad(array: NDArray[Any]) -> str:
    values = np.asarray(array)   # a masked array would hide some elements
    bad = ~np.isfinite(values)
    place = tuple(int(index) for index in np.unravel_index(int(bad.argmax()), bad.shape))
    return f"{values[place]} at index {place} is the first of {np.count_nonzero(bad)}"
