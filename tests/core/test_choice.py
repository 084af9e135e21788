"""Built-in objects are read and written by name; user-defined ones are written, but not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

import pytest

from edgewright.core import Choice, Positional, Settings
from edgewright.errors import UsageError


@runtime_checkable
class Shape(Protocol):
    @property
    def name(self) -> str: ...

    def area(self) -> float: ...


@runtime_checkable
class Color(Protocol):
    def rgb(self) -> tuple[int, int, int]: ...


class Dot(Settings):
    @property
    def name(self) -> str:
        return "dot"

    def area(self) -> float:
        return 0.0


class Circle(Positional):
    radius: float = 1.0

    def __init__(self, radius: float = 1.0) -> None:
        self._set(radius=radius)

    @property
    def name(self) -> str:
        return "circle"

    def area(self) -> float:
        return 3.0 * self.radius**2


class Box(Settings):
    width: float = 1.0
    height: float = 1.0

    @property
    def name(self) -> str:
        return "box"

    def area(self) -> float:
        return self.width * self.height


class Red(Settings):
    def rgb(self) -> tuple[int, int, int]:
        return (255, 0, 0)


class Framed(Settings):
    frame: Box = Box(width=3)


SHAPES = Choice(dot=Dot, circle=Circle, box=Box, protocol=Shape)


class Drawing(Settings):
    shape: Annotated[Shape, SHAPES] = Dot()
    color: Annotated[Color, Choice(red=Red, protocol=Color)] = Red()
    border: Annotated[Framed | Box, Choice(framed=Framed, box=Box)] | None = None


@dataclass(frozen=True)
class Star:
    points: int = 5
    name: str = "star"

    def area(self) -> float:
        return 1.0 / self.points


@dataclass(frozen=True)
class Gray:
    level: int = 0
    name: str = "not part of the protocol"

    def rgb(self) -> tuple[int, int, int]:
        return (self.level,) * 3


class NamedRed(Gray):
    def __repr__(self) -> str:
        return "red"


@pytest.mark.parametrize(("value", "written", "read"), [
    ({"shape": "dot"}, "dot", Dot()),
    ({"shape": {"dot": {}}}, "dot", Dot()),
    ({"shape": "circle"}, "circle", Circle()),
    ({"shape": {"circle": 1}}, "circle", Circle()),
    ({"shape": {"circle": 2}}, {"circle": 2.0}, Circle(2)),
    ({"shape": {"circle": {"radius": 2}}}, {"circle": 2.0}, Circle(2)),
    ({"shape": Circle(3)}, {"circle": 3.0}, Circle(3)),
    ({"shape": "box"}, "box", Box()),
    ({"shape": {"box": {"height": 2}}}, {"box": {"width": 1.0, "height": 2.0}}, Box(height=2)),
    ({"color": "red"}, "red", Red()),
    ({"border": None}, None, None),
    ({"border": "framed"}, "framed", Framed()),
    ({"border": {"framed": {"frame": {}}}},
     {"framed": {"frame": {"width": 1.0, "height": 1.0}}}, Framed(frame=Box())),
    ({"border": {"framed": {"frame": {"width": 2}}}},
     {"framed": {"frame": {"width": 2.0, "height": 1.0}}}, Framed(frame=Box(width=2))),
])
def test_builtin_objects_are_written_as_they_are_read(value: dict[str, Any], written: Any,
                                                      read: object) -> None:
    (field,) = value
    drawing = Drawing(**value)
    assert getattr(drawing, field) == read
    assert drawing.model_dump()[field] == drawing.model_dump(mode="json")[field] == written
    assert Drawing.model_validate(drawing.model_dump()) == drawing
    assert Drawing.model_validate_json(drawing.model_dump_json()) == drawing
    assert drawing.replace(**{field: getattr(drawing, field)}) == drawing


EXPECTED = "Input should be 'dot', 'circle' or 'box', or your own object of type Shape, given in " \
           "Python"
FORM = "; settings are given as {name: {setting: value}}"


@pytest.mark.parametrize(("value", "message"), [
    ({"shape": "square"}, f"Drawing: shape: {EXPECTED}, got 'square'"),
    ({"shape": None}, f"Drawing: shape: {EXPECTED}, got None"),
    ({"shape": ["dot"]}, f"Drawing: shape: {EXPECTED}, got ['dot']"),
    ({"shape": {}}, f"Drawing: shape: {EXPECTED}{FORM}, got {{}}"),
    ({"shape": {"square": 1}}, f"Drawing: shape: {EXPECTED}{FORM}, got {{'square': 1}}"),
    ({"shape": {"dot": 1}}, f"Drawing: shape: {EXPECTED}{FORM}, got {{'dot': 1}}"),
    ({"shape": {"box": 1}}, f"Drawing: shape: {EXPECTED}{FORM}, got {{'box': 1}}"),
    ({"shape": {"name": "circle", "radius": 1}},
     f"Drawing: shape: {EXPECTED}{FORM}, got {{'name': 'circle', 'radius': 1}}"),
    ({"shape": {"circle": "wide"}}, "Drawing: shape.circle.radius: Input should be a valid number"),
    ({"shape": {"circle": {"radios": 1}}},
     "Drawing: shape.circle.radios: unknown setting; did you mean radius?"),
    ({"shape": {"box": {"z": 1}}}, "Drawing: shape.box.z: unknown setting; known: width, height"),
    ({"shape": {"dot": {"size": 1}}}, "Drawing: shape.dot.size: unknown setting; known: none"),
    ({"shape": Circle}, f"Drawing: shape: {EXPECTED}, got <class"),
    ({"shape": Star}, f"Drawing: shape: {EXPECTED}, got <class"),
    ({"shape": Gray()}, f"Drawing: shape: {EXPECTED}, got Gray("),
    ({"border": "red"}, "Drawing: border: Input should be 'framed' or 'box', got 'red'"),
    ({"border": Star()}, "Drawing: border: Input should be 'framed' or 'box', got Star("),
    ({"color": "blue"}, "Drawing: color: Input should be 'red', or your own object of type Color, "
                        "given in Python, got 'blue'"),
])
def test_other_values_are_refused_with_the_names(value: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Drawing(**value)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("field", "value", "written"), [
    ("shape", Star(points=7), "star"),
    ("color", Gray(9), "Gray(level=9, name='not part of the protocol')"),
])
def test_user_defined_objects_are_written_and_cannot_be_read(field: str, value: object,
                                                             written: str) -> None:
    drawing = Drawing(**{field: value})
    assert getattr(drawing, field) is value
    assert drawing.model_dump()[field] == drawing.model_dump(mode="json")[field] == written
    with pytest.raises(UsageError, match=f"{field}: Input should be .*, or your own object of "
                                         "type .*, given in Python, got "):
        Drawing.model_validate(drawing.model_dump())


@pytest.mark.parametrize(("field", "value", "name"), [
    ("shape", Star(name="circle"), "circle"), ("color", NamedRed(), "red")])
def test_user_defined_objects_may_not_have_a_builtin_name(field: str, value: object,
                                                          name: str) -> None:
    with pytest.raises(UsageError, match=f"{field}: The name '{name}' is a built-in's; give your "
                                         "object another"):
        Drawing(**{field: value})


def test_a_value_has_the_name_of_its_class() -> None:
    assert [SHAPES.name_of(kind()) for kind in SHAPES.kinds.values()] == ["dot", "circle", "box"]
    assert SHAPES.name_of(Star()) == "star"
    assert Choice(red=Red).name_of(Gray(1)) == repr(Gray(1))
