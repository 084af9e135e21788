"""The order in which exit thresholds are lowered, from no early exits taken to all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgewright.exits._predictions import ExitIndices, ExitPredictions, Floats

_CANDIDATES: Final = 64
_SHORTEST_STREAK: Final = 2


def find_threshold_path(predictions: ExitPredictions, segment_macs: Sequence[int], *,
                        streaks: bool = False) -> Floats:
    """Find a path of threshold vectors, from no early exits to all samples at the first exit.

    Each step lowers one threshold to its next candidate: the one that loses the least quality
    (right decisions) per saved multiply-accumulate, or if tied, the one that saves most. The
    candidates are 64 quantiles of the observed scores. Lowering a threshold can only make samples
    leave earlier, so the cost decreases along the path.

    Args:
        predictions: Predictions on the samples to find the path with.
        segment_macs: Multiply-accumulates of each segment.
        streaks: Whether scores are lengths of streaks; the candidates are then the observed whole
            numbers from 2, because a single exit always agrees with itself.

    Returns:
        (steps, early exits), the strictest first: all infinity, so that no exit is taken.

    Example:
        >>> predictions = ExitPredictions(scores=np.array([[0.9, 0.2]]),
        ...                               quality=np.array([[1.0, 0.0], [1.0, 1.0]]))
        >>> path = find_threshold_path(predictions, [10, 90])
        >>> path[0].tolist(), path[-1].round(6).tolist(), len(path)
        ([inf], [0.2], 65)
    """
    grids = [_candidate_thresholds(scores, streaks) for scores in predictions.scores]
    at = [0] * len(grids)
    left_at = np.full(predictions.quality.shape[1], len(grids))
    path = [[math.inf] * len(grids)]
    reached_macs = np.cumsum(segment_macs, dtype=np.float64)
    while movable := [index for index, grid in enumerate(grids) if at[index] + 1 < len(grid)]:
        moves = [_evaluate_move(predictions, left_at, index, grids[index][at[index] + 1],
                                reached_macs) for index in movable]
        best = min(moves, key=lambda move: (move.price, -move.saved))
        at[best.index] += 1
        left_at[best.joining] = best.index
        path.append([float(grid[step]) for grid, step in zip(grids, at, strict=True)])
    return np.array(path)


def find_cheapest_within(predictions: ExitPredictions, path: Floats, max_drop: float) -> Floats:
    """The last point of a path whose mean cost on these samples is allowed.

    It is selected on the same samples that it is evaluated on: on others the drop may be larger.

    Args:
        predictions: Predictions on the samples to evaluate.
        path: Result of `find_threshold_path`, (steps, early exits).
        max_drop: Allowed drop of the mean quality relative to the last exit, as a fraction.

    Returns:
        The thresholds, (early exits,).

    Example:
        >>> predictions = ExitPredictions(scores=np.array([[0.9, 0.2]]),
        ...                               quality=np.array([[1.0, 0.0], [1.0, 1.0]]))
        >>> find_cheapest_within(predictions, np.array([[np.inf], [0.9], [0.2]]), 0.0).tolist()
        [0.9]
    """
    step = len(path) - 1
    while step and predictions.costs(path[step]).mean() > max_drop + 1e-12:
        step -= 1
    thresholds: Floats = path[step]
    return thresholds


def to_rule_thresholds(thresholds: Floats) -> tuple[float | None, ...]:
    """Thresholds as exit rules have them: None, not infinity, for an exit that is never taken.

    Example:
        >>> to_rule_thresholds(np.array([np.inf, 0.9]))
        (None, 0.9)
    """
    return tuple(None if threshold == math.inf else threshold for threshold in thresholds.tolist())


@dataclass(frozen=True)
class _Move:
    index: int
    joining: ExitIndices
    saved: float
    price: float


def _evaluate_move(predictions: ExitPredictions, left_at: ExitIndices, index: int, threshold: float,
                   reached_macs: Floats) -> _Move:
    """The savings and price of lowering one exit's threshold."""
    joining = np.flatnonzero((predictions.scores[index] >= threshold) & (left_at > index))
    moved_from = left_at[joining]
    saved = float((reached_macs[moved_from] - reached_macs[index]).sum())
    lost = float(predictions.quality[moved_from, joining].sum()
                 - predictions.quality[index, joining].sum())
    return _Move(index, joining, saved, price=max(0.0, lost) / max(saved, 1e-12))


def _candidate_thresholds(scores: Floats, streaks: bool) -> Floats:
    """Candidate thresholds, strictest first: `NEVER`, then observed scores."""
    if streaks:
        seen = np.unique(scores[scores >= _SHORTEST_STREAK])
    else:
        seen = np.unique(np.quantile(scores, np.arange(_CANDIDATES) / _CANDIDATES))
    return np.concatenate([[math.inf], seen[::-1]])
