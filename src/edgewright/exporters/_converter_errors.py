"""Errors of third-party converters, reported as `ModelError`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, final

from edgewright.errors import EdgewrightError, ModelError

_OTHERS: Final = (EdgewrightError, OSError, ImportError, MemoryError)  # not about the program
_MAX_LENGTH: Final = 300


@final
class ConverterErrors(AbstractContextManager[None]):
    """Context manager that converts the exceptions of a converter to a `ModelError`.

    Converters raise exceptions of many types, also of their own.

    Args:
        format_name: The file format of the converter.
        reason: Returns the reason for an exception; `format_error` by default.

    Example:
        >>> with ConverterErrors("ONNX"):
        ...     raise RuntimeError("no such operator")
        Traceback (most recent call last):
            ...
        edgewright.errors.ModelError: the program has no ONNX translation: no such operator; \
replace the operator in the model
    """

    def __init__(self, format_name: str, reason: Callable[[BaseException], str] | None = None,
                 ) -> None:
        self._format_name, self._reason = format_name, reason or format_error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, _OTHERS):
            raise ModelError(f"the program has no {self._format_name} translation: "
                             f"{self._reason(error)}; replace the operator in the model") from error


def format_error(error: BaseException) -> str:
    """Format an exception and its root cause on one line, truncated.

    Example:
        >>> try:
        ...     try:
        ...         raise KeyError("val")
        ...     except KeyError as cause:
        ...         raise RuntimeError("a pass failed") from cause
        ... except RuntimeError as error:
        ...     format_error(error)
        "a pass failed: KeyError: 'val'"
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    parts = [" ".join(str(error).split())[:_MAX_LENGTH] or type(error).__name__]
    if len(causes) > 1:
        text = " ".join(str(causes[-1]).split())[:_MAX_LENGTH]
        parts.append(f"{type(causes[-1]).__name__}: {text}")
    return ": ".join(parts)
