"""Identify goals and their settings, so that a run is resumed only for the same goal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType
from typing import Any, Final

import numpy as np
from torch import Tensor

_LOADED_BY_PATH: Final = "_edgewright_"


def identify(value: Any) -> str:
    """A description of a goal or of one of its settings that does not change between processes.

    Functions are described by name and code, other objects such as metrics by their class and the
    values of their plain attributes, tensors and arrays by their values.

    Example:
        >>> from edgewright.goals import Classification
        >>> identify(Classification())
        "Classification(output=None, class_weights=None, label_smoothing=0.0, metric=None, unit='')"
        >>> identify(len)
        'builtins.len'
    """
    if is_dataclass(value) and not isinstance(value, type):
        settings = ", ".join(f"{entry.name}={identify(getattr(value, entry.name))}"
                             for entry in fields(value))
        return f"{type(value).__name__}({settings})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {identify(part)}' for key, part in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(identify, value))})"
    if isinstance(value, Tensor | np.ndarray):
        return identify(value.tolist())
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return _identify_object(value)


def _identify_object(value: Any) -> str:
    """Name of a function, class or object, with a function's code and an object's settings."""
    named = value if hasattr(value, "__qualname__") else type(value)
    # A file that is loaded by path gets another module name each time.
    module = "" if named.__module__.startswith(_LOADED_BY_PATH) else f"{named.__module__}."
    name = f"{module}{named.__qualname__}"
    if isinstance(value, FunctionType):
        return f"{name}@{_digest_function(value)}"
    attributes = {} if named is value else getattr(value, "__dict__", {})
    settings = {key: part for key, part in sorted(attributes.items()) if _is_plain(key, part)}
    return f"{name}{identify(settings)}" if settings else name


def _digest_function(function: FunctionType) -> str:
    """Checksum of a function's code, defaults and captured values."""
    captured = [cell.cell_contents for cell in function.__closure__ or ()]
    plain = [identify(part) for part in (*(function.__defaults__ or ()), *captured)
             if _is_plain("", part)]
    return hashlib.sha256(repr((_code(function.__code__), plain)).encode()).hexdigest()[:16]


def _code(code: CodeType) -> tuple[Any, ...]:
    constants = [_code(part) if isinstance(part, CodeType) else identify(part)
                 for part in code.co_consts if not isinstance(part, frozenset)]
    return code.co_code.hex(), code.co_names, constants


def _is_plain(name: str, value: Any) -> bool:
    """Whether a public attribute is a number, a text, None, a tensor or an array."""
    return not name.startswith("_") and (
        value is None or isinstance(value, str | int | float | Tensor | np.ndarray))
