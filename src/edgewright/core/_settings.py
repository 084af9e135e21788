"""What values and configs have in common: frozen, strict about names, checked when changed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError
from pydantic import model_validator as validator

from edgewright.errors import UsageError


class Value(BaseModel):
    """A frozen value; whatever it is made from, a changed copy included, is checked as a whole.

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
        """This value with other fields, which are checked as those of a new one are.

        Args:
            changes: The fields to change, by name. The others stay as they are; those that were
                left at their defaults stay defaults.

        Raises:
            UsageError: There is no field of that name.
            ValueError: A field does not take its value, or does not go with the others; a config
                raises `UsageError` for that, too.
        """
        for name in changes:
            if name not in type(self).model_fields:
                raise UsageError(f"{type(self).__name__} has no field {name!r}; "
                                 f"{self._known(name)}")
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(kept | changes)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Pydantic's copy, with an update that is checked as `replace` checks it."""
        copy = super().model_copy(deep=deep)
        return copy.replace(**update) if update else copy

    @classmethod
    def _known(cls, name: str) -> str:
        near = difflib.get_close_matches(name, cls.model_fields, n=1)
        return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(cls.model_fields)}"


class Settings(Value):
    """A config whose mistakes, an unknown name or a value out of range, are UsageErrors.

    Example:
        >>> class Pruning(Settings):
        ...     ratio: float = 0.5
        >>> Pruning(ration=0.3)
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: Pruning: ration: Extra inputs are not permitted, got 0.3
    """

    @validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {fault['input']!r}"
                      for fault in error.errors()]
            raise UsageError(f"{cls.__name__}: {'; '.join(faults)}") from error
