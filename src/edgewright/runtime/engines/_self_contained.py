"""The check of an ONNX file before a runtime loads it."""

from __future__ import annotations

from edgewright.bundle import has_external_data
from edgewright.errors import BundleError
from edgewright.runtime.engines._failures import load_failure


def check_self_contained(model: bytes, runtime: str, package: str) -> None:
    """Reject an ONNX file for which a runtime would open other files.

    Args:
        model: The bytes of the file.
        runtime: Name and version of the runtime.
        package: Name of its package.

    Raises:
        BundleError: A tensor's data is in another file, or the bytes are not an ONNX file.

    Example:
        >>> check_self_contained(b"no model", "onnxruntime 1.31.1", "onnxruntime")
        Traceback (most recent call last):
            ...
        edgewright.errors.BundleError: onnxruntime 1.31.1 cannot load the model: field 13 has \
wire type 6, which ONNX does not use; export it again, or upgrade onnxruntime
    """
    try:
        outside = has_external_data(model)
    except ValueError as error:
        raise load_failure(runtime, package, error) from error
    if outside:
        raise BundleError("the model refers to tensors in another file (external data), which is "
                          "not opened; save it as one file")
