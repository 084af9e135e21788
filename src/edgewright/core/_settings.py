"""Base classes of values and configs: frozen, no unknown fields, validated on every change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError
from pydantic import model_validator as validator
from pydantic_core import ErrorDetails

from edgewright.core._nearest import suggest
from edgewright.errors import Fault, SettingsError, UsageError

_QUOTED: Final = re.compile(r"'([^']*)'")


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
        edgewright.errors.UsageError: Size has no field 'hight'; did you mean height?
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
                                 f"{suggest(name, type(self).model_fields)}")
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(kept | changes)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Pydantic's copy, except that the update is validated as in `replace`."""
        copy = super().model_copy(deep=deep)
        return copy.replace(**update) if update else copy


class Settings(Value):
    """A config that raises `SettingsError` with every unknown field and invalid value.

    Those of configs in its fields are listed, too.

    Example:
        >>> class Pruning(Settings):
        ...     ratio: float = 0.5
        >>> Pruning(ration=0.3)
        Traceback (most recent call last):
            ...
        edgewright.errors.SettingsError: Pruning: ration: unknown setting; did you mean ratio?
    """

    def __init__(self, **settings: Any) -> None:
        with _unwrapped_errors():
            self.__pydantic_validator__.validate_python(settings, self_instance=self)

    # Pydantic need not call it for settings in a field.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Pydantic's function, with `SettingsError`."""
        with _unwrapped_errors():
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Pydantic's function, with `SettingsError`."""
        with _unwrapped_errors():
            return super().model_validate_json(json_data, **options)

    @validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            raise cls._with_faults([fault for found in error.errors()
                                    for fault in cls._faults(found)]) from error

    @classmethod
    def _with_faults(cls, faults: Sequence[Fault]) -> SettingsError:
        """The error that lists them; a rule about several settings names them itself."""
        return SettingsError(faults, [cls.__name__ if fault.path else "" for fault in faults])

    @classmethod
    def _faults(cls, found: ErrorDetails) -> Iterator[Fault]:
        """One fault, or those of a config in a field."""
        path, cause = found["loc"], found.get("ctx", {}).get("error")
        if isinstance(cause, SettingsError):
            yield from (fault.below(*path) for fault in cause.faults)
        elif isinstance(cause, ValueError):
            yield Fault(path, str(cause))
        elif found["type"] == "extra_forbidden" and len(path) == 1:
            yield _unknown(path, cls)
        elif found["type"] == "missing":
            yield Fault(path, found["msg"])
        else:
            yield Fault(path, f"{found['msg']}, got {found['input']!r}{_nearest_choice(found)}")


@contextmanager
def _unwrapped_errors() -> Iterator[None]:
    """Raise the `SettingsError` that pydantic has wrapped, or that a rule's error amounts to."""
    try:
        yield
    except ValidationError as error:
        cause = error.errors()[0].get("ctx", {}).get("error")
        if isinstance(cause, SettingsError):
            raise cause from None
        raise SettingsError([Fault((), str(cause or error))], [""]) from None


def _unknown(path: tuple[int | str, ...], kind: type[Value]) -> Fault:
    return Fault(path, f"unknown setting; {suggest(str(path[-1]), kind.model_fields)}")


def _nearest_choice(found: ErrorDetails) -> str:
    """The choice that a text is probably meant to be, of those that are expected."""
    names = _QUOTED.findall(str(found.get("ctx", {}).get("expected", "")))
    near = suggest(found["input"], names) if isinstance(found["input"], str) else ""
    return f"; {near}" if near.startswith("did you mean") else ""


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
        edgewright.errors.SettingsError: Group: sise: unknown setting; did you mean size?
    """

    def _set(self, **settings: Any) -> None:
        """Validate and store the settings; called by ``__init__``."""
        super().__init__(**settings)

    @validator(mode="wrap")
    @classmethod
    def _refuse_unknown(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse what ``__init__`` would refuse with a TypeError."""
        unknown = [name for name in map(str, value if isinstance(value, Mapping) else ())
                   if name not in cls.model_fields]
        if unknown:
            raise cls._with_faults([_unknown((name,), cls) for name in unknown])
        return handler(value)
