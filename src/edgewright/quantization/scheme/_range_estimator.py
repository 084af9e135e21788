"""What finds the range of a value: an estimator, and its observer of one value."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from edgewright.quantization.scheme._grid import Grid


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


@runtime_checkable
class RangeEstimator(Protocol):
    """How the range of each weight and activation is found; a frozen value.

    The built-in ones are `MinMax`, `Percentile`, `MSE` and `Entropy`. Another needs this method
    and a ``repr`` that tells one setting of it from another, as a frozen dataclass has: a run is
    known by it.
    """

    def observer(self, grid: Grid) -> Observer:
        """A new observer of one weight or activation.

        Args:
            grid: What the range is for: weights or activations, and what shares a scale. It is
                never that of a 1-bit activation, whose two levels are found in one way only.
        """
