"""`Choice`: settings whose values are objects in Python and names in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from edgewright.core._settings import Settings
from edgewright.errors import SettingsError


@final
class Choice:
    """Annotation for a field that accepts a built-in object by name, or a user-defined one.

    In YAML and in Python the name alone stands for the object with default settings. With other
    settings, a class that has one is written ``{name: value}`` (unless the value is a mapping
    itself), and a class that has several ``{name: {setting: value, ...}}``.

    Args:
        protocol: A runtime-checkable protocol that every user-defined object must implement; None
            accepts no such objects. They are written as their ``name`` if the protocol has one,
            else as their ``repr``, which must differ from the built-in names; they cannot be read
            back.
        kinds: The built-in classes, by name; the ``name`` of their objects, if any, is the same.

    Attributes:
        kinds: The built-in classes, by name.

    Example:
        >>> from typing import Annotated, Protocol, runtime_checkable
        >>> @runtime_checkable
        ... class Shape(Protocol):
        ...     def area(self) -> float: ...
        >>> class Square(Settings):
        ...     side: float = 1.0
        ...     def area(self) -> float:
        ...         return self.side**2
        >>> class Drawing(Settings):
        ...     shape: Annotated[Shape, Choice(square=Square, protocol=Shape)] = Square()
        >>> Drawing(shape={"square": 3}) == Drawing(shape=Square(side=3))
        True
        >>> Drawing(shape={"square": 3}).model_dump(), Drawing(shape="square").model_dump()
        ({'shape': {'square': 3.0}}, {'shape': 'square'})
        >>> Drawing(shape="circle")
        Traceback (most recent call last):
            ...
        edgewright.errors.SettingsError: Drawing: shape: Input should be 'square', or your own object of type Shape, given in Python, got 'circle'
    """  # noqa: E501 - the message is one line

    def __init__(self, *, protocol: type | None = None, **kinds: type[Settings]) -> None:
        self.kinds = kinds
        self._protocol = protocol
        self._uses_repr = protocol is None or not hasattr(protocol, "name")

    def name_of(self, value: Any) -> str:
        """The name of a value's class; for a user-defined object its ``name`` or ``repr``.

        Example:
            >>> Choice(settings=Settings).name_of(Settings())
            'settings'
        """
        for name, kind in self.kinds.items():
            if type(value) is kind:
                return name
        return repr(value) if self._uses_repr else str(value.name)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler,
                                     ) -> CoreSchema:
        """The schema that reads and writes by name."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            self._read, serialization=core_schema.plain_serializer_function_ser_schema(self._write))

    def _read(self, value: Any) -> Any:
        if type(value) in self.kinds.values():
            return value
        if self._is_of_protocol(value):
            return self._unambiguous(value)
        if isinstance(value, str) and value in self.kinds:
            return self.kinds[value]()
        if isinstance(value, Mapping) and len(value) == 1:
            (name, settings), = value.items()
            if name in self.kinds and isinstance(settings, Mapping):
                return _read_kind(self.kinds[name], name, settings)
            if name in self.kinds and len(self.kinds[name].model_fields) == 1:
                return _read_kind(self.kinds[name], name,
                                  dict.fromkeys(self.kinds[name].model_fields, settings))
        raise PydanticCustomError("choice", "Input should be {expected}",
                                  {"expected": self._expected(value)})

    def _is_of_protocol(self, value: object) -> bool:
        return (self._protocol is not None and not isinstance(value, type)
                and isinstance(value, self._protocol))

    def _unambiguous(self, value: object) -> object:
        """A user-defined object, unless it has the name of a built-in one."""
        name = self.name_of(value)
        if name in self.kinds:
            raise PydanticCustomError("choice", "The name {name} is a built-in's; give your object "
                                      "another", {"name": repr(name)})
        return value

    def _expected(self, value: object) -> str:
        *names, last = [repr(name) for name in self.kinds]
        listed = f"{', '.join(names)} or {last}" if names else last
        form = "; settings are given as {name: {setting: value}}"
        own = "" if self._protocol is None else (
            f", or your own object of type {self._protocol.__name__}, given in Python")
        return listed + own + (form if isinstance(value, Mapping) else "")

    def _write(self, value: Any) -> Any:
        name = self.name_of(value)
        if name not in self.kinds or not value.model_dump(exclude_defaults=True):
            return name
        settings = value.model_dump(mode="json")
        only = next(iter(settings.values()))
        is_bare = len(settings) == 1 and not isinstance(only, Mapping)
        return {name: only if is_bare else settings}


def _read_kind(kind: type[Settings], name: str, settings: Mapping[str, Any]) -> Settings:
    """An object of a built-in class; the path to a fault in it goes through the class's name."""
    try:
        return kind.model_validate(settings)
    except SettingsError as error:
        raise SettingsError([fault.below(name) for fault in error.faults],
                            [kind.__name__] * len(error.faults)) from error
