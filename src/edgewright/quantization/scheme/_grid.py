"""`Grid`: the integers that represent a tensor, and what shares a scale."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal, final

Role = Literal["weight", "activation"]


@final
@dataclass(frozen=True)
class Grid:
    """The integers that represent real numbers: ``real = scale * (integer - zero_point)``.

    One byte stores an integer of up to 8 bits. With 1 bit there are two levels, ``-scale`` and
    ``scale``.

    ``role`` and not the integer type tells weights from activations: runtimes store activations as
    int8 or as uint8.

    Attributes:
        bits: 8, 4, 3, 2 or 1.
        signed: Stored as int8, otherwise as uint8.
        symmetric: The zero point is fixed in the middle; otherwise it depends on the range.
        axis: Dimension with one scale per entry; None for one scale per tensor.
        group: Number of consecutive entries of the *last* dimension that share a scale; None for
            all. Only for ``axis=0`` of a matrix: the scale then has shape (rows, columns / group).
        power_of_two: Scales are powers of two.
        narrow: Exclude the lowest integer, so that the range is symmetric around zero.
        role: ``weight`` for a stored tensor, which is the same for every sample, or
            ``activation`` for a value that differs between samples.

    Example:
        >>> Grid(8, signed=True, symmetric=True, axis=0, narrow=True, role="weight").limits
        (-127, 127)
        >>> Grid(4, signed=False, symmetric=False, role="activation").limits
        (0, 15)
        >>> binary = Grid(1, signed=False, symmetric=True, role="activation")
        >>> binary.limits, binary.middle
        ((0, 2), 1)
    """

    bits: int
    signed: bool
    symmetric: bool
    axis: int | None = None
    group: int | None = None
    power_of_two: bool = False
    narrow: bool = False
    _: KW_ONLY
    role: Role

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
        """The highest integer minus the lowest."""
        return self.limits[1] - self.limits[0]
