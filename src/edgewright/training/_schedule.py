"""The learning rate as a pure function of the step, so that resuming needs no state."""

from __future__ import annotations

import math
from typing import Final

from edgewright.training._config import Training

_RISE: Final = 0.3  # Smith & Topin: share of the cycle that climbs
_START: Final = 1 / 25
_END: Final = 1e-5


def learning_rate(config: Training, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 over the whole run.

    Example:
        >>> config = Training(epochs=2, lr=1.0)
        >>> [round(learning_rate(config, step, 2), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    total = config.epochs * steps_per_epoch
    if config.schedule == "one_cycle":
        return config.lr * _one_cycle(step / total)
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * min(1.0, (step + 1) / warmup)
    if config.schedule == "constant":
        return config.lr
    return config.lr * _cosine(1.0, 0.0, (step - warmup) / (total - warmup))


def _one_cycle(progress: float) -> float:
    if progress < _RISE:
        return _cosine(_START, 1.0, progress / _RISE)
    return _cosine(1.0, _END, (progress - _RISE) / (1 - _RISE))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
