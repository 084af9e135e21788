"""Ridge regression of a layer's weights, one observation per output position."""

from __future__ import annotations

from typing import Any, Final, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from edgewright.graph import argument, ops, shape_of

FITTED_CONVOLUTIONS: Final = ops.INTEGER_CONVOLUTIONS - ops.NUMBERED_PADDING.keys()  # as F.unfold
MOST_REGRESSORS: Final = 2**13  # a square matrix of this size has to fit in memory
_NEUTRAL_GEOMETRY: Final = {"stride": 1, "padding": 0, "dilation": 1}  # values without an effect


@final
class Moments:
    """Sums of products of regressors (columns of X) and targets (columns of Y)."""

    def __init__(self, regressors: int, targets: int) -> None:
        self._count = 0
        self._sum_x = torch.zeros(regressors, dtype=torch.float64)
        self._sum_y = torch.zeros(targets, dtype=torch.float64)
        self._xx = torch.zeros(regressors, regressors, dtype=torch.float64)
        self._xy = torch.zeros(regressors, targets, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add observations: X of (rows, regressors) and Y of (rows, targets)."""
        self._count += len(x)
        self._sum_x += x.sum(dim=0)
        self._sum_y += y.sum(dim=0)
        self._xx += x.T @ x
        self._xy += x.T @ y

    def solve(self, prior: Tensor, ridge: float, *, centered: bool) -> tuple[Tensor, Tensor]:
        """Solve for weights (regressors, targets) and offset (targets,), 0 unless centered.

        They minimize ``|Y - X W|^2 + penalty |W - prior|^2``, the penalty being ``ridge`` times the
        mean variance of the regressors.
        """
        xx, xy = self._xx / self._count, self._xy / self._count
        x, y = self._sum_x / self._count, self._sum_y / self._count
        if centered:
            xx, xy = xx - x.outer(x), xy - x.outer(y)
        penalty = ridge * xx.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
        weights = torch.linalg.solve(xx + penalty * torch.eye(len(xx), dtype=xx.dtype),
                                     xy + penalty * prior)
        return weights, y - x @ weights if centered else torch.zeros_like(y)

    def target_means(self) -> Tensor:
        """The mean of every target, (targets,)."""
        return self._sum_y / self._count

    def output_moments(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of ``X W``, each of (targets,), for weights (regressors, targets)."""
        mean = self._sum_x / self._count
        covariance = self._xx / self._count - mean.outer(mean)
        variance = (weights * (covariance @ weights)).sum(dim=0)
        return mean @ weights, variance.clamp_min(0.0)


def count_positions(node: Node) -> int:
    """Number of observations of a layer per sample."""
    shape = shape_of(node)
    spatial = shape[1:-1] if node.target is ops.LINEAR else shape[2:]
    return int(torch.Size(spatial).numel())


def flatten_observations(layer: Node, weight: Tensor, value: Tensor,
                         targets: Tensor) -> tuple[Tensor, Tensor]:
    """Regressors (rows, inputs of one output) and targets (rows, outputs) of a layer.

    Args:
        layer: A linear layer, or one of `FITTED_CONVOLUTIONS` with one group.
        weight: Its weight.
        value: Its input.
        targets: What it should compute.
    """
    if layer.target is ops.LINEAR:
        return value.flatten(0, -2), targets.flatten(0, -2)
    patches = _extract_patches(layer, value, weight)
    return patches, targets.flatten(2).transpose(1, 2).flatten(0, 1)


def _extract_patches(layer: Node, value: Tensor, weight: Tensor) -> Tensor:
    """The input patch of each output position of a convolution, (rows, channels * kernel size)."""
    geometry = [_first_and_last(argument(layer, name)) for name in _NEUTRAL_GEOMETRY]
    if weight.ndim == 3:  # treat a 1-d signal as an image of height 1
        value, weight = value.unsqueeze(2), weight.unsqueeze(2)
        geometry = [(neutral, size) for neutral, (_, size) in zip(
            _NEUTRAL_GEOMETRY.values(), geometry, strict=True)]
    stride, padding, dilation = geometry
    patches = F.unfold(value, weight.shape[2:], dilation, padding, stride)
    return patches.transpose(1, 2).flatten(0, 1)


def _first_and_last(sizes: Any) -> tuple[int, int]:
    return sizes[0], sizes[-1]
