"""Which packages belong to an extra, and the error that says how to install it."""

from __future__ import annotations

from typing import Final

from edgewright.errors import MissingExtraError

_WORKSHOP: Final = frozenset({"torch", "onnx", "onnx_ir", "onnxscript", "yaml",
                              "lightning_fabric", "safetensors", "datasets", "sklearn"})


def missing_workshop(error: ModuleNotFoundError, what: str) -> MissingExtraError | None:
    """The error to raise where ``what`` failed for a package of the workshop, else None."""
    if error.name is None or error.name.partition(".")[0] not in _WORKSHOP:
        return None
    return MissingExtraError(what, "compress")
