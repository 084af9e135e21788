"""What an exporter says when a converter gives up."""

from __future__ import annotations

from typing import Final

from edgewright.errors import ModelError

FAILURES: Final = (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError)


def no_translation(format_name: str, reason: str) -> ModelError:
    """A program cannot be written in a format.

    Example:
        >>> no_translation("ONNX", "no such operator")
        ModelError('the program has no ONNX translation: no such operator; replace the operator in \
the model')
    """
    return ModelError(f"the program has no {format_name} translation: {reason}; replace the "
                      "operator in the model")


def on_one_line(error: Exception) -> str:
    """The beginning of a message."""
    return " ".join(str(error).split())[:300]
