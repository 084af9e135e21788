"""Edgewright: make a trained model fit an edge device, and prove it on the runtime that runs it.

Names are loaded on first use, so that ``import edgewright`` and running a bundle never import
torch; the names of the workshop need ``pip install 'edgewright[compress]'``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from edgewright.errors import EdgewrightError, MissingExtraError

if TYPE_CHECKING:
    from edgewright.core import Budget, Manifest
    from edgewright.runtime import Session, load

_HOME: Final[dict[str, str]] = {
    "Budget": "edgewright.core",
    "Manifest": "edgewright.core",
    "Session": "edgewright.runtime",
    "load": "edgewright.runtime",
}
_WORKSHOP: Final = frozenset({"torch", "torchao", "onnx", "onnx_ir", "onnxscript", "yaml",
                              "lightning_fabric", "safetensors", "datasets", "sklearn"})

__version__: Final = "0.1.0"

__all__ = [
    "Budget",
    "EdgewrightError",
    "Manifest",
    "Session",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgewright' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _WORKSHOP:
            raise
        raise MissingExtraError(f"edgewright.{name}", "compress") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
