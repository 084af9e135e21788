"""The way from nobody leaving early to everybody: which threshold is lowered when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgewright.exits._answers import Answers, Exits, Floats

_CANDIDATES: Final = 64
_SHORTEST_STREAK: Final = 2


def threshold_path(answers: Answers, segment_macs: Sequence[int], *,
                   streaks: bool = False) -> Floats:
    """Every threshold vector on the way from nobody leaving early to everybody.

    Each step lowers one threshold to its next candidate: the one that loses fewest right answers
    for the multiply-accumulates it saves, and of equals the one that saves most. The candidates are
    64 quantiles of the scores seen. Lowering a threshold only ever lets samples leave earlier, so
    along the path the cost falls.

    Args:
        answers: On the samples to find the path on.
        segment_macs: Multiply-accumulates of each segment.
        streaks: The scores are lengths of streaks; the candidates are the whole numbers seen, from
            2, since a single exit always agrees with itself.

    Returns:
        (steps, early exits), the strictest first: all infinity, so that no exit is taken.

    Example:
        >>> answers = Answers(np.array([[0.9, 0.2]]), np.array([[True, False], [True, True]]))
        >>> path = threshold_path(answers, [10, 90])
        >>> path[0].tolist(), path[-1].round(6).tolist(), len(path)
        ([inf], [0.2], 65)
    """
    grids = [_grid(scores, streaks) for scores in answers.scores]
    at = [0] * len(grids)
    left_at = np.full(answers.correct.shape[1], len(grids))
    path = [[math.inf] * len(grids)]
    reached_macs = np.cumsum(segment_macs, dtype=np.float64)
    while movable := [index for index, grid in enumerate(grids) if at[index] + 1 < len(grid)]:
        moves = [_move(answers, left_at, index, grids[index][at[index] + 1], reached_macs)
                 for index in movable]
        best = min(moves, key=lambda move: (move.price, -move.saved))
        at[best.index] += 1
        left_at[best.joining] = best.index
        path.append([float(grid[step]) for grid, step in zip(grids, at, strict=True)])
    return np.array(path)


def cheapest_within(answers: Answers, path: Floats, max_drop: float) -> Floats:
    """The last point of a path that keeps the accuracy on these samples.

    It is tuned to the very samples that judge it: on others the loss may well be larger.

    Args:
        answers: On the samples to judge it by.
        path: Of `threshold_path`, (steps, early exits).
        max_drop: Accuracy it may lose against the last exit, as a fraction.

    Returns:
        The thresholds, (early exits,).

    Example:
        >>> answers = Answers(np.array([[0.9, 0.2]]), np.array([[True, False], [True, True]]))
        >>> cheapest_within(answers, np.array([[np.inf], [0.9], [0.2]]), 0.0).tolist()
        [0.9]
    """
    step = len(path) - 1
    while step and answers.losses(path[step]).mean() > max_drop + 1e-12:
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
    joining: Exits
    saved: float
    price: float


def _move(answers: Answers, left_at: Exits, index: int, threshold: float,
          reached_macs: Floats) -> _Move:
    """What it would bring to lower one exit's threshold."""
    joining = np.flatnonzero((answers.scores[index] >= threshold) & (left_at > index))
    moved_from = left_at[joining]
    saved = float((reached_macs[moved_from] - reached_macs[index]).sum())
    lost = float(np.count_nonzero(answers.correct[moved_from, joining])
                 - np.count_nonzero(answers.correct[index, joining]))
    return _Move(index, joining, saved, price=max(0.0, lost) / max(saved, 1e-12))


def _grid(scores: Floats, streaks: bool) -> Floats:
    """Thresholds to try, strictest first: never, then what was seen."""
    if streaks:
        seen = np.unique(scores[scores >= _SHORTEST_STREAK])
    else:
        seen = np.unique(np.quantile(scores, np.arange(_CANDIDATES) / _CANDIDATES))
    return np.concatenate([[math.inf], seen[::-1]])
