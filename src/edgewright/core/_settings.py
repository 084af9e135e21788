"""Base classes of values and configs: frozen, no unknown fields, validated on every change."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError
from pydantic import model_validator as validator
from pydantic_core import ErrorDetails

from edgewright.errors import UsageError


class Value(BaseModel):
    """A frozen value that is validated as a whole whenever one is made, changed copies included.

    Example:
        >>> class Size(Value):
        ...     width: int = 1
        ...     height: int = 1
        >>> Size(width=3).replace(height=2)
        Size(width=3, height=2)
        >>> Size().replace(hight=2)
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: Size has no field 'hight'; did you mean 'height'?
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def replace(self, **changes: Any) -> Self:
        """A copy with other field values, validated like a new value.

        Args:
            changes: New values by field name. All other fields stay; those never set remain unset.

        Raises:
            UsageError: There is no field of that name.
            ValueError: A value is invalid, alone or in combination with the others; a config
                raises `UsageError` instead.
        """
        for name in changes:
            if name not in type(self).model_fields:
                raise UsageError(f"{type(self).__name__} has no field {name!r}; "
                                 f"{self._known(name)}")
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(kept | changes)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Pydantic's copy, except that the update is validated as in `replace`."""
        copy = super().model_copy(deep=deep)
        return copy.replace(**update) if update else copy

    @classmethod
    def _known(cls, name: str) -> str:
        near = difflib.get_close_matches(name, cls.model_fields, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
        return f"it has {', '.join(cls.model_fields) or 'none'}"


class Settings(Value):
    """A config that raises `UsageError` for an unknown field or an invalid value.

    Example:
        >>> class Pruning(Settings):
        ...     ratio: float = 0.5
        >>> Pruning(ration=0.3)
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: Pruning: ration: no such setting; did you mean 'ratio'?
    """

    @validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            faults = "; ".join(map(cls._describe, error.errors()))
            raise UsageError(f"{cls.__name__}: {faults}") from error

    @classmethod
    def _describe(cls, fault: ErrorDetails) -> str:
        place = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            return f"{place}: no such setting; {cls._known(place)}"
        return f"{place}: {fault['msg']}, got {fault['input']!r}"


class Positional(Settings):
    """Settings that can be passed as positional arguments, in the order of ``__init__``.

    Example:
        >>> class Group(Positional):
        ...     size: int = 32
        ...     def __init__(self, size: int = 32) -> None:
        ...         self._set(size=size)
        >>> Group(64)
        Group(size=64)
        >>> Group.model_validate({"sise": 64})
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: Group: sise: no such setting; did you mean 'size'?
    """

    def _set(self, **settings: Any) -> None:
        """Validate and store the settings; called by ``__init__``."""
        super().__init__(**settings)

    @validator(mode="wrap")
    @classmethod
    def _refuse_unknown(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse what ``__init__`` would refuse with a TypeError."""
        for name in map(str, value if isinstance(value, Mapping) else ()):
            if name not in cls.model_fields:
                raise UsageError(f"{cls.__name__}: {name}: no such setting; {cls._known(name)}")
        return handler(value)
