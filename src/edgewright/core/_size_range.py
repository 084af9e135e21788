"""A dimension whose size may vary from call to call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, TypeAlias

from pydantic import Field, model_validator

from edgewright.core._settings import Value
from edgewright.errors import DataError


class SizeRange(Value):
    """The sizes that a dimension may have.

    Attributes:
        low: The smallest size.
        high: The largest size.
        step: The difference between two neighboring sizes.
        name: Dimensions of the same name have the same size in every call; empty for a dimension
            whose size follows from others.

    Raises:
        ValueError: ``low`` is above ``high``, or no number of steps leads from one to the other.

    Example:
        >>> 20 in SizeRange(low=16, high=400), str(SizeRange(low=16, high=400))
        (True, '16..400')
        >>> 20 in SizeRange(low=16, high=400, step=8), str(SizeRange(low=16, high=400, step=8))
        (False, '16..400 in steps of 8')
    """

    low: int = Field(ge=0)
    high: int
    step: int = Field(default=1, ge=1)
    name: str = ""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"a size from {self.low} to {self.high} is impossible; give the "
                             "smaller one first")
        if (self.high - self.low) % self.step:
            largest = self.high - (self.high - self.low) % self.step
            raise ValueError(f"steps of {self.step} from {self.low} do not reach {self.high}; give "
                             f"{largest} as the largest size")
        return self

    def __contains__(self, size: int) -> bool:
        return self.low <= size <= self.high and (size - self.low) % self.step == 0

    def __str__(self) -> str:
        return f"{self.low}..{self.high}" + (f" in steps of {self.step}" if self.step > 1 else "")


Size: TypeAlias = int | SizeRange | None


def format_shape(shape: Sequence[Size]) -> str:
    """A shape as text, with N for the batch.

    Example:
        >>> format_shape((None, 3, SizeRange(low=16, high=400))), format_shape((None,))
        ('(N, 3, 16..400)', '(N,)')
    """
    sizes = ["N" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def find_wrong_size(shape: Sequence[int], expected: Sequence[Size]) -> int | None:
    """The first dimension with a size that is not as expected; None if all fit.

    Args:
        shape: Sizes of an array.
        expected: As many sizes; None fits any.

    Example:
        >>> find_wrong_size((5, 3, 9), (None, 3, SizeRange(low=16, high=400)))
        2
    """
    for dim, (size, want) in enumerate(zip(shape, expected, strict=True)):
        if not (want is None or (size in want if isinstance(want, SizeRange) else size == want)):
            return dim
    return None


def find_unequal_sizes(shapes: Sequence[Sequence[int]],
                       expected: Sequence[Sequence[Size]]) -> tuple[int, int, int, int] | None:
    """The first two dimensions of one name that differ, as (input, dim, other input, other dim).

    Example:
        >>> length = SizeRange(low=4, high=9, name="ids_1")
        >>> find_unequal_sizes([(1, 5), (1, 6)], [(None, length), (None, length)])
        (0, 1, 1, 1)
    """
    first: dict[str, tuple[int, int]] = {}
    for number, sizes in enumerate(expected):
        for dim, want in enumerate(sizes):
            if not isinstance(want, SizeRange) or not want.name:
                continue
            known, at = first.setdefault(want.name, (number, dim))
            if shapes[known][at] != shapes[number][dim]:
                return known, at, number, dim
    return None


def check_equal_sizes(names: Sequence[str], shapes: Sequence[Sequence[int]],
                      expected: Sequence[Sequence[Size]]) -> None:
    """Check that dimensions of one name have the same size in every input.

    Args:
        names: Names of the inputs.
        shapes: Their shapes in this call.
        expected: Their shapes with ranges.

    Raises:
        DataError: Two differ; the message names inputs and dimensions.
    """
    found = find_unequal_sizes(shapes, expected)
    if found is not None:
        one, at, other, dim = found
        raise DataError(f"input {names[other]!r} has size {shapes[other][dim]} in dimension {dim}, "
                        f"but {names[one]!r} has {shapes[one][at]} in dimension {at}; the two must "
                        "be equal")
