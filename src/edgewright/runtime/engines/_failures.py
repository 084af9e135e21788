"""What an engine says when a runtime refuses a model or its inputs."""

from __future__ import annotations

from typing import Final

from edgewright.errors import BundleError

_LONGEST: Final = 300


def load_failure(runtime: str, package: str, error: Exception) -> BundleError:
    """A runtime does not load a model.

    Example:
        >>> load_failure("litert 2.3.0", "ai-edge-litert", ValueError("no subgraph"))
        BundleError('litert 2.3.0 cannot load the model: no subgraph; export it again, or upgrade \
ai-edge-litert')
    """
    return BundleError(f"{runtime} cannot load the model: {_reason(error)}; export it again, or "
                       f"upgrade {package}")


def input_failure(error: Exception) -> BundleError:
    """A model does not take the inputs it was given.

    Example:
        >>> input_failure(ValueError("given 2 inputs"))
        BundleError('the model does not take these inputs: given 2 inputs')
    """
    return BundleError(f"the model does not take these inputs: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The beginning and the end of a message, on one line: one of the two says what failed."""
    text = " ".join(str(error).split())
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"
