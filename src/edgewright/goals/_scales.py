"""The spread of predictions over all samples that are compared, not of one batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from edgewright.goals._kinds import PredictionKind
from edgewright.goals._outputs import Prediction


def measure_scales(batches: Iterable[Sequence[Prediction]]) -> tuple[float, ...]:
    """Standard deviation of the values of each prediction over all batches.

    Sums are combined as by Chan et al. (1979), in double precision, so that the result does not
    depend on how the samples are divided into batches.

    Args:
        batches: The predictions of each batch, read only as far as one needs its scale.

    Returns:
        One number per prediction; none if all kinds state their scale or have no use for one.

    Example:
        >>> import torch
        >>> from edgewright.goals import Values
        >>> rows = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
        >>> [measure_scales([Prediction("", part, Values())] for part in rows.split(size))
        ...  for size in (1, 4)]
        [(2.23606797749979,), (2.23606797749979,)]
    """
    spreads: list[_Spread] = []
    for predictions in batches:
        if not any(prediction.kind.needs_scale for prediction in predictions):
            return ()
        spreads = spreads or [_Spread() for _ in predictions]
        for spread, prediction in zip(spreads, predictions, strict=True):
            spread.add(prediction.tensor)
    return tuple(spread.standard_deviation for spread in spreads)


def kinds_with_scales(predictions: Sequence[Prediction],
                      scales: Sequence[float]) -> tuple[PredictionKind, ...]:
    """The kind of each prediction with its scale; as it is if there are no scales."""
    if not scales:
        return tuple(prediction.kind for prediction in predictions)
    return tuple(prediction.kind.with_scale(scale)
                 for prediction, scale in zip(predictions, scales, strict=True))


@final
@dataclass
class _Spread:
    """Number, mean and sum of squared deviations of the values so far."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: Tensor) -> None:
        new = values.detach().double()
        count, mean = new.numel(), float(new.mean())
        total, shift = self.count + count, mean - self.mean
        self.squares += (float((new - mean).square().sum())
                         + shift ** 2 * self.count * count / total)
        self.mean += shift * count / total
        self.count = total

    @property
    def standard_deviation(self) -> float:
        return math.sqrt(self.squares / self.count)
