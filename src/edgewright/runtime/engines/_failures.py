"""Errors of an engine whose runtime rejects a model or its inputs."""

from __future__ import annotations

from typing import Final

from edgewright.errors import BundleError

_MAX_LENGTH: Final = 300


def load_failure(runtime: str, package: str, error: Exception) -> BundleError:
    """The error of a runtime that cannot load a model.

    Example:
        >>> load_failure("litert 2.3.0", "ai-edge-litert", ValueError("no subgraph"))
        BundleError('litert 2.3.0 cannot load the model: no subgraph; export it again, or upgrade \
ai-edge-litert')
    """
    return BundleError(f"{runtime} cannot load the model: {_reason(error)}; export it again, or "
                       f"upgrade {package}")


def input_failure(error: Exception) -> BundleError:
    """The error of a model whose inputs do not match it.

    Example:
        >>> input_failure(ValueError("given 2 inputs"))
        BundleError('the model does not accept these inputs: given 2 inputs')
    """
    return BundleError(f"the model does not accept these inputs: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The start and end of a message, on one line; one of the two usually has the cause."""
    text = " ".join(str(error).split())
    half = _MAX_LENGTH // 2
    return text if len(text) <= _MAX_LENGTH else f"{text[:half]} ... {text[-half:]}"
