"""What an engine asks of an ONNX file before a runtime sees it."""

from __future__ import annotations

from edgewright.bundle import has_external_data
from edgewright.errors import BundleError
from edgewright.runtime.engines._failures import load_failure


def check_self_contained(model: bytes, runtime: str, package: str) -> None:
    """Refuse an ONNX file for which a runtime would open other files.

    Args:
        model: The bytes of the file.
        runtime: Name and version of what would load it.
        package: Its package's name.

    Raises:
        BundleError: A tensor's data are in another file, or the bytes are no ONNX file.

    Example:
        >>> check_self_contained(b"no model", "onnxruntime 1.31.1", "onnxruntime")
        Traceback (most recent call last):
            ...
        edgewright.errors.BundleError: onnxruntime 1.31.1 cannot load the model: field 13 is of \
the wire type 6, which ONNX has not; export it again, or upgrade onnxruntime
    """
    try:
        outside = has_external_data(model)
    except ValueError as error:
        raise load_failure(runtime, package, error) from error
    if outside:
        raise BundleError("the model takes tensors from another file (external data), which is "
                          "not opened; save it as one file")
