"""NaN and infinity: a network turns them into an answer as confident as any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core import TensorSpec
from edgewright.errors import DataError
from edgewright.runtime.engines import Arrays


def check_finite(specs: Sequence[TensorSpec], inputs: Arrays) -> None:
    """Refuse inputs that hold NaN or infinity.

    Args:
        specs: Of the inputs, for their names.
        inputs: Arrays of any dtype; those of integers cannot hold either.

    Raises:
        DataError: One of them does; names the input and the first such element.

    Example:
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> check_finite([spec], (np.array([[1, 2], [3, np.nan]], dtype=np.float32),))
        Traceback (most recent call last):
            ...
        edgewright.errors.DataError: input 'x' holds NaN or infinite values: nan at index (1, 1) \
is the first of 1; repair the sample, for only a session with validate=False takes it as it is
    """
    for spec, array in zip(specs, inputs, strict=True):
        if not _all_finite(array):
            raise DataError(f"input {spec.name!r} holds NaN or infinite values: "
                            f"{_first_bad(array)}; repair the sample, for only a session with "
                            "validate=False takes it as it is")


def check_outputs(names: Sequence[str], segment: str, outputs: Arrays) -> None:
    """Refuse what a segment made of finite inputs where it is NaN or plus infinity.

    Minus infinity passes: it is the logit of a class that cannot be.

    Args:
        names: Of the outputs to check, the first of them.
        segment: The segment's file.
        outputs: Of shape (N, ...) each.

    Raises:
        DataError: One of them holds such a value; names the segment and the output.

    Example:
        >>> check_outputs(["y"], "segments/0.onnx", (np.array([[0.0, np.inf], [0.0, 0.0]]),))
        Traceback (most recent call last):
            ...
        edgewright.errors.DataError: segments/0.onnx makes NaN or infinite values of finite \
inputs: its output 'y' for 1 of 2 samples; check the samples, then the model, for only a session \
with validate=False returns such outputs
    """
    for name, array in zip(names, outputs, strict=False):
        if _all_finite(array):
            continue
        rows = np.atleast_1d(array)
        bad = (np.isnan(rows) | (rows == np.inf)).reshape(len(rows), -1).any(axis=1)
        if bad.any():
            raise DataError(f"{segment} makes NaN or infinite values of finite inputs: its output "
                            f"{name!r} for {np.count_nonzero(bad)} of {len(bad)} samples; check "
                            "the samples, then the model, for only a session with validate=False "
                            "returns such outputs")


def _all_finite(array: NDArray[Any]) -> bool:
    # Of what numpy offers this is exact, keeps to one thread, and is the fastest where arrays are
    # small and each call counts; `.all()` takes four times as long there.
    return (array.dtype.kind not in "fc"
            or np.count_nonzero(np.isfinite(np.asarray(array))) == array.size)


def _first_bad(array: NDArray[Any]) -> str:
    values = np.asarray(array)   # a masked array's own view of itself hides some
    bad = ~np.isfinite(values)
    place = tuple(int(index) for index in np.unravel_index(int(bad.argmax()), bad.shape))
    return f"{values[place]} at index {place} is the first of {np.count_nonzero(bad)}"
