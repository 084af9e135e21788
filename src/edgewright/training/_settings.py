"""What every config of a pass has in common: frozen, strict about names, clear about mistakes."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError
from pydantic import model_validator as validator

from edgewright.errors import UsageError


class Settings(BaseModel):
    """A frozen config whose mistakes, an unknown name or a value out of range, are UsageErrors.

    Example:
        >>> class Pruning(Settings):
        ...     ratio: float = 0.5
        >>> Pruning(ration=0.3)
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: Pruning: ration: Extra inputs are not permitted, got 0.3
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {fault['input']!r}"
                      for fault in error.errors()]
            raise UsageError(f"{cls.__name__}: {'; '.join(faults)}") from error
