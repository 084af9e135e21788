"""How sure an exit must be: the cheapest thresholds that keep the accuracy, on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import UsageError
from edgewright.runtime import confidence

NEVER: Final = 2.0  # above any probability
_CANDIDATES: Final = 64


@dataclass(frozen=True)
class Thresholds:
    """Chosen thresholds and what they do on the split they were chosen on.

    Attributes:
        values: Top softmax probability needed to leave at each early exit.
        accuracy: With these thresholds.
        full_accuracy: Of the last exit alone.
        mean_macs: Multiply-accumulates a sample, on average.
        exit_shares: Share of the samples that leave at each exit, the last included.
    """

    values: tuple[float, ...]
    accuracy: float
    full_accuracy: float
    mean_macs: float
    exit_shares: tuple[float, ...]


def choose_thresholds(logits: Sequence[NDArray[np.float32]], targets: NDArray[np.int64],
                      segment_macs: Sequence[int], *, max_drop: float) -> Thresholds:
    """Choose one confidence threshold per early exit.

    Starting with no sample leaving early, the threshold that saves most multiply-accumulates is
    lowered, one step of a quantile at a time, as long as the accuracy stays within ``max_drop`` of
    the last exit's.

    Args:
        logits: One array (N, classes) per exit, the last included.
        targets: Class indices (N,).
        segment_macs: Multiply-accumulates of each segment.
        max_drop: As a fraction.

    Raises:
        UsageError: Exits and segments disagree in number.

    Example:
        >>> import numpy as np
        >>> sure = np.array([[9.0, 0.0], [0.0, 9.0]], dtype=np.float32)
        >>> chosen = choose_thresholds([sure, sure], np.array([0, 1]), [10, 90], max_drop=0.0)
        >>> chosen.exit_shares, chosen.mean_macs
        ((1.0, 0.0), 10.0)
    """
    if len(logits) != len(segment_macs):
        raise UsageError(f"{len(logits)} exits and {len(segment_macs)} segments do not match")
    sureness = [confidence(values) for values in logits[:-1]]
    correct = [values.argmax(axis=1) == targets for values in logits]
    reached = np.cumsum(segment_macs)
    full = float(correct[-1].mean())
    grids = [_grid(values) for values in sureness]
    steps = [0] * len(grids)

    def outcome(at: Sequence[int]) -> tuple[float, float, NDArray[np.int64]]:
        values = [grid[step] for grid, step in zip(grids, at, strict=True)]
        left_at = _exit_of(sureness, values, len(targets))
        hits = np.choose(left_at, correct)
        return float(hits.mean()), float(reached[left_at].mean()), left_at

    while True:
        moves = [[step + (index == moved) for index, step in enumerate(steps)]
                 for moved in range(len(steps)) if steps[moved] + 1 < len(grids[moved])]
        tried = [(*outcome(move)[:2], move) for move in moves]
        legal = [(macs, move) for accuracy, macs, move in tried
                 if accuracy >= full - max_drop - 1e-12]
        if not legal:
            break
        steps = min(legal)[1]
    accuracy, mean_macs, left_at = outcome(steps)
    values = tuple(float(grid[step]) for grid, step in zip(grids, steps, strict=True))
    shares = np.bincount(left_at, minlength=len(logits)) / len(targets)
    return Thresholds(values, accuracy, full, mean_macs, tuple(shares.tolist()))


def _grid(sureness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds to try, strictest first: never, then quantiles of what was seen."""
    quantiles = np.quantile(sureness, np.linspace(1, 0, _CANDIDATES))
    return np.concatenate([[NEVER], quantiles])


def _exit_of(sureness: Sequence[NDArray[np.float64]], thresholds: Sequence[float],
             count: int) -> NDArray[np.int64]:
    left_at = np.full(count, len(sureness))
    for index in reversed(range(len(sureness))):
        left_at[sureness[index] >= thresholds[index]] = index
    return left_at
