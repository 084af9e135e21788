"""A setting that is an object: the built-in ones have names, any other is given as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from edgewright.core._settings import Settings


@final
@dataclass(frozen=True)
class Choice:
    """Annotates a config's field that takes a built-in object by name, or any of a protocol.

    A name stands for the built-in object with its defaults, a mapping with that ``name`` for one
    with other settings, as a YAML file holds it; both are written that way, too. An object of the
    user's is written by its ``name`` alone, and cannot be read from a file again.

    Args:
        kinds: The built-in configs, by name.
        protocol: What every object has to be; checkable at run time, with a ``name``.

    Example:
        >>> from typing import Annotated, Protocol, runtime_checkable
        >>> @runtime_checkable
        ... class Shape(Protocol):
        ...     @property
        ...     def name(self) -> str: ...
        >>> class Circle(Settings):
        ...     radius: float = 1.0
        ...     @property
        ...     def name(self) -> str:
        ...         return "circle"
        >>> class Drawing(Settings):
        ...     shape: Annotated[Shape, Choice({"circle": Circle}, Shape)] = Circle()
        >>> Drawing(shape={"name": "circle", "radius": 2}).model_dump()
        {'shape': {'name': 'circle', 'radius': 2.0}}
        >>> Drawing(shape="circle").model_dump()
        {'shape': 'circle'}
        >>> Drawing(shape="square")
        Traceback (most recent call last):
            ...
        edgewright.errors.UsageError: Drawing: shape: Input should be 'circle', or your own object of type Shape, given in Python, got 'square'
    """  # noqa: E501 - the message is one line

    kinds: Mapping[str, type[Settings]]
    protocol: type

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler
                                     ) -> CoreSchema:
        """Read and write values as described above."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            self._read, serialization=core_schema.plain_serializer_function_ser_schema(self._write))

    def _read(self, value: Any) -> Any:
        if isinstance(value, str) and value in self.kinds:
            return self.kinds[value]()
        if isinstance(value, Mapping) and value.get("name") in self.kinds:
            return self.kinds[value["name"]].model_validate(
                {key: setting for key, setting in value.items() if key != "name"})
        if isinstance(value, self.protocol) and not isinstance(value, str | Mapping):
            return self._unambiguous(value)
        names = ", ".join(repr(name) for name in self.kinds)
        raise PydanticCustomError("choice", "Input should be {names}, or your own object of type "
                                  "{protocol}, given in Python",
                                  {"names": names, "protocol": self.protocol.__name__})

    def _unambiguous(self, value: Any) -> Any:
        """A value, unless it is of the user's and bears a built-in's name."""
        if value.name in self.kinds and type(value) is not self.kinds[value.name]:
            raise PydanticCustomError("choice", "The name {name} is a built-in's; give the object "
                                      "another `name`", {"name": repr(value.name)})
        return value

    def _write(self, value: Any) -> Any:
        name = value.name
        kind = self.kinds.get(name)
        if kind is None or value == kind():
            return name
        return {"name": name, **value.model_dump(mode="json")}
