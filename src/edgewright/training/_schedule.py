"""The learning rate as a pure function of step and history, so that resuming needs no state."""

from __future__ import annotations

import math
from typing import Final

from edgewright.training._config import Training
from edgewright.training._record import EpochRecord

_RISE: Final = 0.3  # Smith & Topin: share of the cycle that climbs
_START: Final = 1 / 25
_END: Final = 1e-5
_FALL: Final = 0.1  # at a plateau, as He et al. 2016


def learning_rate(config: Training, step: int, steps_per_epoch: int,
                  history: tuple[EpochRecord, ...] = ()) -> float:
    """The learning rate of a step, counted from 0 over the whole run.

    Args:
        config: Schedule, peak and warm-up.
        step: Which one.
        steps_per_epoch: Steps of an epoch.
        history: The epochs before the step's; only ``plateau`` looks at them.

    Example:
        >>> config = Training(epochs=2, lr=1.0)
        >>> [round(learning_rate(config, step, 2), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    total = config.epochs * steps_per_epoch
    warmup = config.warmup_epochs * steps_per_epoch
    if config.schedule == "one_cycle":
        return config.lr * _one_cycle(step / total, warmup / total or _RISE)
    if step < warmup:
        return config.lr * min(1.0, (step + 1) / warmup)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "plateau":
        return config.lr * _FALL ** _plateaus(history, config.plateau_epochs)
    return config.lr * _cosine(1.0, 0.0, (step - warmup) / (total - warmup))


def _one_cycle(progress: float, rise: float) -> float:
    if progress < rise:
        return _cosine(_START, 1.0, progress / rise)
    return _cosine(1.0, _END, (progress - rise) / (1 - rise))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _plateaus(history: tuple[EpochRecord, ...], epochs: int) -> int:
    """How often so many settled epochs in a row have brought no better score."""
    count, since, best = 0, 0, -math.inf
    for record in history:
        if not record.settled:
            continue
        since = 0 if record.score.merit > best else since + 1
        best = max(best, record.score.merit)
        if since == epochs:
            count, since = count + 1, 0
    return count
