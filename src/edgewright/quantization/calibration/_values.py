"""A tensor's numbers as a calibration reads them: finite, float32, one row for each scale."""

from __future__ import annotations

import torch
from torch import Tensor

from edgewright.errors import DataError, UsageError
from edgewright.quantization.scheme import Grid


def rows_of(x: Tensor, grid: Grid) -> Tensor:
    """The numbers that share a scale side by side, in the last dimension.

    Args:
        x: Of any shape, layout and type.
        grid: Says what shares a scale.

    Returns:
        float32 of the scale's shape and one dimension more: (N,) for one scale in all, (C, N) for
        a scale an entry of ``grid.axis``, (C, G, ``grid.group``) for groups. It may share memory
        with ``x``.

    Raises:
        UsageError: The groups do not divide the last dimension.

    Example:
        >>> channels = Grid(8, signed=True, symmetric=True, axis=0, role="weight")
        >>> rows_of(torch.zeros(8, 3, 2, 2), channels).shape
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


def extremes_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest number of each row, of the shape of the scale.

    Raises:
        DataError: A number is NaN or infinite.
    """
    low, high = torch.aminmax(rows, dim=-1)
    if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise DataError(_not_finite(rows))
    return low, high


def settled(low: Tensor, high: Tensor, extremes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A range that was found, within the extremes, with zero in it, and never empty.

    Where nothing is left of it (all but a few numbers are zero), the extremes stand in.

    Example:
        >>> settled(torch.tensor([1., 0.]), torch.tensor([2., 0.]),
        ...         (torch.tensor([0., 0.]), torch.tensor([3., 4.])))
        (tensor([0., 0.]), tensor([2., 4.]))
    """
    lowest, highest = extremes[0].clamp(max=0), extremes[1].clamp(min=0)
    low, high = low.clamp(max=0).maximum(lowest), high.clamp(min=0).minimum(highest)
    empty = low >= high
    return torch.where(empty, lowest, low), torch.where(empty, highest, high)


def unseen() -> DataError:
    """What is wrong with a range of nothing."""
    return DataError("there is no range to be found, for no number was seen; expected one at "
                     "least: show calibration data that reaches this value")


def _not_finite(rows: Tensor) -> str:
    bad = int((~torch.isfinite(rows)).sum())
    return (f"{bad} of {rows.numel()} numbers are NaN or infinite, so that no range holds them; "
            "remove such samples from the calibration data, or repair the weights")
