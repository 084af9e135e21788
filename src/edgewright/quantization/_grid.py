"""`Grid`: which integers stand for a tensor's numbers, and how they are spaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

_STORED_BITS: Final = 8


@final
@dataclass(frozen=True)
class Grid:
    """Integers that stand for reals: ``real = scale * (integer - zero_point)``.

    One byte stores an integer of up to 8 bits. One bit is two levels, ``-scale`` and ``scale``.

    Attributes:
        bits: 8, 4, 3, 2 or 1.
        signed: Stored as int8, else as uint8.
        symmetric: The zero point is in the middle and fixed; else it moves with the range.
        axis: Dimension whose entries have a scale each; None for one scale in all.
        group: Consecutive entries of the *last* dimension that share a scale; None for all.
            Only with ``axis=0`` of a matrix: the scale is then (rows, columns / group).
        power_of_two: Scales are powers of two.
        narrow: Leave out the lowest integer, so that the range is the same on both sides.

    Example:
        >>> Grid(8, signed=True, symmetric=True, axis=0, narrow=True).limits
        (-127, 127)
        >>> Grid(4, signed=False, symmetric=False).limits
        (0, 15)
        >>> Grid(1, signed=False, symmetric=True).limits, Grid(1, False, True).middle
        ((0, 2), 1)
    """

    bits: int
    signed: bool
    symmetric: bool
    axis: int | None = None
    group: int | None = None
    power_of_two: bool = False
    narrow: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest integer."""
        if self.bits == 1:
            return self.middle - 1, self.middle + 1
        low = -(1 << (self.bits - 1)) if self.signed else 0
        return low + self.narrow, low + (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point of a symmetric grid."""
        if self.signed:
            return 0
        return 1 if self.bits == 1 else 1 << (self.bits - 1)

    @property
    def steps(self) -> int:
        """The highest integer less the lowest."""
        return self.limits[1] - self.limits[0]
