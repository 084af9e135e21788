"""Protocols for finding ranges: range estimators and their observers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from edgewright.quantization.scheme._grid import Grid


class Observer(Protocol):
    """Finds the range of one weight or activation.

    The memory of an observer must not grow with the amount of data it observes.
    """

    def update(self, x: Tensor) -> None:
        """Observe the values of ``x``; an empty tensor has no effect.

        Args:
            x: Floating-point tensor of any memory layout, with a shape that fits the grid.

        Raises:
            DataError: A value is NaN or infinite.
            UsageError: The grid's groups do not divide the last dimension.
        """

    def range(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest real number that the grid should represent.

        Returns:
            Two float32 tensors of the shape of the grid's scale, (), (C,) or (C, G), finite, with
            ``low <= 0 <= high``. ``low < high`` unless all observed values are zero; then both are
            0, and `FakeQuantizer.set_range` uses the mean of the other scales, or 1. For a 1-bit
            activation, the two levels, which need not have zero between them.

        Raises:
            DataError: No values were observed.
        """


@runtime_checkable
class RangeEstimator(Protocol):
    """How the range of each weight and activation is found; an immutable value.

    The built-in estimators are `MinMax`, `Percentile`, `MSE` and `Entropy`. Your own estimator
    needs the method ``observer`` and a ``repr`` that includes its settings, like that of a frozen
    dataclass, because a run is identified by it.
    """

    def observer(self, grid: Grid) -> Observer:
        """Create an observer for one weight or activation.

        Args:
            grid: The grid whose range is needed. It is never the grid of a 1-bit activation, whose
                two levels are always found by `BinaryLevels`.
        """
