"""Prepare tensors for calibration: float32, finite, one row per scale."""

from __future__ import annotations

import torch
from torch import Tensor

from edgewright.errors import DataError, UsageError
from edgewright.quantization.scheme import Grid


def arrange_rows_by_scale(x: Tensor, grid: Grid) -> Tensor:
    """Arrange a tensor so that the last dimension holds the values that share a scale.

    Args:
        x: A tensor of any shape, memory layout and type.
        grid: Defines which values share a scale.

    Returns:
        float32, the scale's shape plus one dimension: (N,) for one scale per tensor, (C, N) for one
        scale per entry of ``grid.axis``, (C, G, ``grid.group``) for groups. It may share memory
        with ``x``.

    Raises:
        UsageError: The groups do not divide the last dimension.

    Example:
        >>> channels = Grid(8, signed=True, symmetric=True, axis=0, role="weight")
        >>> arrange_rows_by_scale(torch.zeros(8, 3, 2, 2), channels).shape
        torch.Size([8, 12])
    """
    x = x.detach().float()
    if grid.group is not None:
        if x.shape[-1] % grid.group:
            raise UsageError(f"groups of {grid.group} do not divide the {x.shape[-1]} inputs of a "
                             f"weight of shape {tuple(x.shape)}; choose a PerGroup size that does")
        return x.reshape(*x.shape[:-1], -1, grid.group)
    if grid.axis is None:
        return x.reshape(-1)
    return x.movedim(grid.axis, 0).flatten(1)


def min_max_of_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The minimum and the maximum of each row, of the shape of the scale.

    Raises:
        DataError: A value is NaN or infinite.
    """
    low, high = torch.aminmax(rows, dim=-1)
    if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise DataError(_not_finite(rows))
    return low, high


def clip_to_extremes(low: Tensor, high: Tensor, extremes: tuple[Tensor, Tensor],
                     ) -> tuple[Tensor, Tensor]:
    """Clip a range to the extremes and extend it to contain zero.

    Where the result is empty (when all but a few values are zero), the extremes are returned.

    Example:
        >>> clip_to_extremes(torch.tensor([1., 0.]), torch.tensor([2., 0.]),
        ...         (torch.tensor([0., 0.]), torch.tensor([3., 4.])))
        (tensor([0., 0.]), tensor([2., 4.]))
    """
    lowest, highest = extremes[0].clamp(max=0), extremes[1].clamp(min=0)
    low, high = low.clamp(max=0).maximum(lowest), high.clamp(min=0).minimum(highest)
    empty = low >= high
    return torch.where(empty, lowest, low), torch.where(empty, highest, high)


def no_values_error() -> DataError:
    """The error for a range without observed values."""
    return DataError("no range can be computed because no values were observed; use calibration "
                     "data that reaches this value")


def _not_finite(rows: Tensor) -> str:
    bad = int((~torch.isfinite(rows)).sum())
    return (f"{bad} of {rows.numel()} values are NaN or infinite, so they have no finite range; "
            "remove such samples from the calibration data, or repair the weights")
