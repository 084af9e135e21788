"""`Named`: settings whose values are objects in Python and names in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from edgewright.core import Settings


class Positional(Settings):
    """Settings that can be passed as positional arguments, in the order of ``__init__``."""

    def _set(self, **settings: Any) -> None:
        """Validate and store the settings; called by ``__init__``."""
        super().__init__(**settings)


@final
class Named:
    """Annotation for a pydantic field that accepts one of several classes, each with a name.

    The name alone stands for an object of that class with default settings. A class with one
    setting is written ``{name: value}``, a class with several
    ``{name: {setting: value, ...}}``, in YAML and in Python.

    Args:
        protocol: A runtime-checkable protocol that any other object must implement; None accepts
            no other objects. Such objects are serialized as their ``repr`` and cannot be read back.
        kinds: The classes, by name.

    Example:
        >>> from typing import Annotated
        >>> class Stop(Settings):
        ...     pass
        >>> class Go(Settings):
        ...     speed: float = 1.0
        >>> class Signal(Settings):
        ...     shows: Annotated[Stop | Go, Named(stop=Stop, go=Go)] = Stop()
        >>> Signal(shows="go").shows, Signal(shows={"go": 3}).shows
        (Go(speed=1.0), Go(speed=3.0))
        >>> Signal(shows=Go(speed=2)).model_dump(), Signal().model_dump()
        ({'shows': {'go': 2.0}}, {'shows': 'stop'})
    """

    def __init__(self, *, protocol: type | None = None, **kinds: type[Settings]) -> None:
        self._protocol = protocol
        self._kinds = kinds

    def name_of(self, value: object) -> str:
        """The name of a value's class; the ``repr`` of a user-defined object."""
        for name, kind in self._kinds.items():
            if type(value) is kind:
                return name
        return repr(value)

    def read(self, value: Any) -> Any:
        """Convert a name or a mapping to the object it stands for; objects are returned as is.

        Raises:
            PydanticCustomError: The value matches none of the classes.
            UsageError: A setting of the class is unknown or out of range.
        """
        if isinstance(value, tuple(self._kinds.values())) or self._is_of_protocol(value):
            return value
        if isinstance(value, str) and value in self._kinds:
            return self._kinds[value]()
        if isinstance(value, Mapping) and len(value) == 1:
            (name, settings), = value.items()
            if name in self._kinds and (self._kinds[name].model_fields
                                        or isinstance(settings, Mapping)):
                return self._built(self._kinds[name], settings)
        raise PydanticCustomError("named", "Input should be {expected}",
                                  {"expected": self._expected()})

    def write(self, value: Any) -> Any:
        """Serialize a value to the form that `read` accepts."""
        name = self.name_of(value)
        if name not in self._kinds:
            return name
        settings = value.model_dump(mode="json")
        if not settings:
            return name
        return {name: next(iter(settings.values())) if len(settings) == 1 else settings}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler,
                                     ) -> CoreSchema:
        """The schema that reads and writes by name."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(self.write))

    def _is_of_protocol(self, value: object) -> bool:
        return (self._protocol is not None and not isinstance(value, type)
                and isinstance(value, self._protocol))

    def _expected(self) -> str:
        *names, last = [repr(name) for name in self._kinds]
        other = "" if self._protocol is None else f", or a {self._protocol.__name__}"
        return f"{', '.join(names)} or {last}{other}" if names else last + other

    @staticmethod
    def _built(kind: type[Settings], settings: Any) -> Settings:
        if isinstance(settings, Mapping):
            return kind.model_validate(settings)
        return kind.model_validate(dict.fromkeys(list(kind.model_fields)[:1], settings))
