"""`Observer`: what a fake quantizer takes its range from while it is calibrated."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Observer(Protocol):
    """What finds a range; its memory does not grow with what it is shown."""

    def update(self, x: Tensor) -> None:
        """Take the numbers of ``x`` into account; an empty tensor adds nothing.

        Args:
            x: Of any layout and floating-point type, its shape as the grid needs it.

        Raises:
            DataError: A number is NaN or infinite.
            UsageError: The grid's groups do not divide the last dimension.
        """

    def range(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest real number worth an integer.

        Returns:
            ``low <= 0 <= high``, finite, float32, of the shape of the grid's scale: (), (C,) or
            (C, G). ``low < high``, but where every number seen was zero: both are 0 then, and
            `FakeQuantizer.set_range` takes the other scales' mean, or one. At 1 bit, an
            activation's two levels, which need not have zero between them.

        Raises:
            DataError: Nothing was seen.
        """
