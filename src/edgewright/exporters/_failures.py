"""What an exporter says when a converter gives up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, final

from edgewright.errors import ModelError

_FAILURES: Final = (RuntimeError, ValueError, TypeError, NotImplementedError, LookupError,
                    AssertionError, AttributeError)
_LONGEST: Final = 300


@final
class Translation(AbstractContextManager[None]):
    """Turns what a converter raises into a `ModelError` with its reason.

    Converters let their own faults through in many types, among them `Exception` itself.

    Args:
        format_name: What it writes.
        reason: Reads the reason from what it raises.

    Example:
        >>> with Translation("ONNX"):
        ...     raise RuntimeError("no such operator")
        Traceback (most recent call last):
            ...
        edgewright.errors.ModelError: the program has no ONNX translation: no such operator; \
replace the operator in the model
    """

    def __init__(self, format_name: str, reason: Callable[[BaseException], str] | None = None,
                 ) -> None:
        self._format_name, self._reason = format_name, reason or on_one_line

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if isinstance(error, _FAILURES) or type(error) is Exception:
            raise ModelError(f"the program has no {self._format_name} translation: "
                             f"{self._reason(error)}; replace the operator in the model") from error


def on_one_line(error: BaseException) -> str:
    """The beginning of a message, and of that of its first cause.

    Example:
        >>> try:
        ...     try:
        ...         raise KeyError("val")
        ...     except KeyError as cause:
        ...         raise RuntimeError("a pass failed") from cause
        ... except RuntimeError as error:
        ...     on_one_line(error)
        "a pass failed: KeyError: 'val'"
    """
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    told = [" ".join(str(error).split())[:_LONGEST] or type(error).__name__]
    if len(causes) > 1:
        text = " ".join(str(causes[-1]).split())[:_LONGEST]
        told.append(f"{type(causes[-1]).__name__}: {text}")
    return ": ".join(told)
